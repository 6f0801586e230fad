"""Sequences follow each other, stay on one side of the seam, and are masked after an end."""

import pytest
import torch
from scipy import stats

from funcrl.buffers import sequence
from funcrl.core import jit, random, tree
from tests.buffers import steps


def filled(rows, num_rows):
    buffer = sequence.init(tree.index(steps.window(rows[:1]), 0), num_rows)
    for row in rows:
        buffer = sequence.add(buffer, steps.window([row]))
    return buffer


@pytest.mark.parametrize("written", [4, 6, 9])
@pytest.mark.parametrize("length", [1, 3, 4])
def test_all_whole_sequences_are_drawn_equally_often(written, length):
    buffer = filled(steps.plain(written, 2), 6)
    sequences = sequence.sample(buffer, random.key(0), 5000, length)
    assert sequences.mask.shape == (length, 5000)
    assert sequences.transition.next_obs.shape == (length, 5000, 2)
    assert bool(sequences.mask.all())
    names = sequences.transition.obs[..., 0]
    assert torch.equal(names[1:], names[:-1] + 10)
    first, counts = names[0].unique(return_counts=True)
    begin = max(0, written - 6)
    expected = [1 + 10 * t + env for t in range(begin, written - length + 1) for env in range(2)]
    assert first.tolist() == expected
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_the_mask_by_hand():
    rows = steps.plain(5)
    rows[1][0]["truncated"] = rows[3][0]["terminated"] = True
    sequences = sequence.sample(filled(rows, 5), random.key(0), 64, 4)
    masks = {
        steps.where(sequences.transition.obs[0, b, 0])[0]: sequences.mask[:, b].tolist() for b in range(64)
    }
    assert masks == {0: [True, True, False, False], 1: [True, False, False, False]}


def test_compiled_lanes_equal_a_loop():
    rows = steps.plain(8)
    rows[4][0]["terminated"] = True
    buffers = tree.stack([filled(rows, 6), filled(rows[:6], 6)])
    keys = torch.stack([random.key(0), random.key(1)])
    draw = lambda buffer, key: sequence.sample(buffer, key, 4, 3)
    compiled = jit.jit(torch.vmap(draw), backend="aot_eager")(buffers, keys)
    expected = tree.stack([draw(tree.index(buffers, lane), keys[lane]) for lane in range(2)])
    assert all(map(torch.equal, tree.leaves(compiled), tree.leaves(expected)))
