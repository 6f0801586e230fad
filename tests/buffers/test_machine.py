"""Both buffers against a Python list that forgets nothing, over random histories."""

import itertools
import math

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from funcrl.buffers import prioritised, sequence, sum_tree, uniform
from funcrl.core import random, tree
from tests.buffers import steps

ALPHA = 0.7
ends = st.sampled_from(["", "", "", "terminated", "truncated"])


class Machine(RuleBasedStateMachine):
    """`rows` is all that was ever added, `priority` what the paper's table would hold."""

    @initialize(
        num_rows=st.integers(1, 9), num_envs=st.integers(1, 3), n=st.integers(1, 4), gamma=st.floats(0, 1)
    )
    def begin(self, num_rows, num_envs, n, gamma):
        self.num_rows, self.num_envs, self.n, self.gamma = num_rows, num_envs, min(n, num_rows), gamma
        example = tree.index(steps.window(steps.plain(1, num_envs)), 0)
        self.uniform = uniform.init(example, num_rows)
        self.prioritised = prioritised.init(example, num_rows, n_step=self.n)
        # So small a buffer would have one level only.
        levels = sum_tree.init(num_rows * num_envs, torch.device("cpu"), width=2, top=2)
        self.prioritised = tree.replace(self.prioritised, priorities=levels)
        self.rows, self.priority, self.largest = [], {}, 1.0

    @property
    def kept(self):
        return range(max(0, len(self.rows) - self.num_rows), len(self.rows))

    @property
    def starts(self):
        """Where n steps follow each other."""
        return [
            (i, env) for i in self.kept[: max(0, len(self.kept) - self.n + 1)] for env in range(self.num_envs)
        ]

    @rule(data=st.data())
    def add(self, data):
        num_new = data.draw(st.integers(1, self.num_rows))
        first = len(self.rows)
        new = [
            [steps.step(first + t, env, data.draw(ends)) for env in range(self.num_envs)]
            for t in range(num_new)
        ]
        self.rows += new
        self.uniform = uniform.add(self.uniform, steps.window(new))
        self.prioritised = prioritised.add(self.prioritised, steps.window(new))
        self.priority = {start: self.priority.get(start, self.largest) for start in self.starts}

    def check(self, batch):
        for i in range(batch.reward.shape[0]):
            number, env = start = steps.where(batch.obs[i, 0])
            assert start in self.starts
            total, discount, next_obs = steps.n_step(self.rows, number, env, self.gamma, self.n)
            assert batch.obs[i].tolist() == [1 + 10 * number + env, -(1 + 10 * number + env)]
            assert int(batch.action[i]) == self.rows[number][env]["action"]
            assert float(batch.reward[i]) == pytest.approx(total, abs=1e-4)
            assert float(batch.discount[i]) == pytest.approx(discount, abs=1e-5)
            assert float(batch.next_obs[i, 0]) == next_obs

    @rule(seed=st.integers(0, 2**31))
    def sample(self, seed):
        if self.starts:
            batch = uniform.sample(self.uniform, random.key(seed), 16, self.gamma, self.n)
            self.check(batch)
            assert batch.weight.tolist() == [1.0] * 16

    @rule(seed=st.integers(0, 2**31), beta=st.floats(0, 1), learnt=st.booleans())
    def sample_and_learn(self, seed, beta, learnt):
        if not self.starts:
            return
        k_sample, k_error = random.split(random.key(seed))
        batch, index = prioritised.sample(self.prioritised, k_sample, 8, self.gamma, beta)
        self.check(batch)
        drawn = [steps.where(obs) for obs in batch.obs[:, 0]]
        share = [len(self.priority) * self.priority[start] / sum(self.priority.values()) for start in drawn]
        weight = [p**-beta for p in share]
        expected = [w / max(weight) for w in weight]
        assert batch.weight.tolist() == pytest.approx(expected, rel=1e-4)
        if learnt:
            error = 4.0 * random.normal(k_error, (8,))
            self.prioritised = prioritised.update(self.prioritised, index, error, ALPHA)
            new = dict.fromkeys(drawn, 0.0)
            for start, delta in zip(drawn, error.tolist(), strict=True):
                new[start] = max(new[start], (abs(delta) + 1e-6) ** ALPHA)
            self.priority |= new
            self.largest = max(self.largest, *new.values())

    @rule(seed=st.integers(0, 2**31), length=st.integers(1, 9))
    def sample_sequences(self, seed, length):
        if length > len(self.kept):
            return
        sequences = sequence.sample(self.uniform, random.key(seed), 4, length)
        for b in range(4):
            first, env = steps.where(sequences.transition.obs[0, b, 0])
            alive = True
            for t in range(length):
                assert first + t in self.kept
                wanted = self.rows[first + t][env]
                assert float(sequences.transition.obs[t, b, 0]) == wanted["obs"]
                assert bool(sequences.mask[t, b]) == alive
                alive = alive and not (wanted["terminated"] or wanted["truncated"])

    @invariant()
    def the_last_rows_are_kept(self):
        if not hasattr(self, "rows") or not self.rows:
            return
        for buffer in (self.uniform, self.prioritised.replay):
            assert int(buffer.count) == len(self.rows)
            expected = steps.window([self.rows[i] for i in self.kept])
            place = torch.tensor([i % self.num_rows for i in self.kept])
            held = tree.index(buffer.data, place)
            for name in ("obs", "action", "reward", "terminated", "truncated", "next_obs"):
                assert torch.equal(getattr(held, name), getattr(expected, name)), name

    @invariant()
    def priorities_are_those_of_the_table(self):
        if not hasattr(self, "rows"):
            return
        levels = self.prioritised.priorities
        size = self.num_rows * self.num_envs
        expected = [0.0] * size
        for (number, env), value in self.priority.items():
            expected[number % self.num_rows * self.num_envs + env] = value
        assert sum_tree.read(levels, torch.arange(size)).tolist() == pytest.approx(expected, rel=1e-5)
        for lower, upper in itertools.pairwise(levels):
            flat = upper.flatten()
            assert flat[: lower.shape[0]].tolist() == pytest.approx(lower.sum(dim=-1).tolist(), rel=1e-5)
        assert float(self.prioritised.largest) == pytest.approx(self.largest, rel=1e-5)
        assert math.isclose(float(levels[-1].sum()), sum(expected), rel_tol=1e-4, abs_tol=1e-6)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=40, stateful_step_count=15, deadline=None, derandomize=True)
