"""Masks that allow nothing: where the first one was, since an agent that saw it has learnt nonsense.

These checks read values, so they follow compiled programs. Environments on the host look for themselves, and
sooner.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from funcrl import envs
from funcrl.core import lanes, masks, tree
from funcrl.train.stages import Binding, Stage


@tree.struct
class EmptyMask:
    """The first mask of one lane that allowed nothing, for loops that keep no windows to look at."""

    steps: Tensor
    """`[]` int64, steps of each environment so far"""
    step: Tensor
    """`[]` int64, the step that such a mask preceded, from 1; 0 as long as there was none"""
    number: Tensor
    """`[]` int64, of which environment"""


def none_yet(spaces: Any, device: torch.device) -> EmptyMask | tuple[()]:
    """Return what is known of one lane at the beginning; `()` where observations hold no masks.

    Args:
        spaces: Anything with `observation_space`.
        device: Where the lane lives.
    """
    if not masks.is_masked(spaces.observation_space):
        return ()
    return EmptyMask(*[torch.zeros((), dtype=torch.int64, device=device) for _ in range(3)])


def looked_for(found: EmptyMask | tuple[()], obs: Any, space: Any) -> EmptyMask | tuple[()]:
    """Return what is known of one lane once further observations have been acted upon.

    Args:
        found: What was known.
        obs: `[N]` observations of its environments.
        space: Of the actions.
    """
    if not isinstance(found, EmptyMask):
        return found
    steps, empty = found.steps + 1, masks.allow_nothing(obs[masks.MASK], space)
    new = empty.any() & (found.step == 0)
    step = torch.where(new, steps, found.step)
    return EmptyMask(steps, step, torch.where(new, empty.to(torch.int64).argmax(), found.number))


def check(binding: Binding, found: EmptyMask | tuple[()]) -> list[Stage]:
    """Return the stage that refuses a mask that allowed nothing; none where there are no masks.

    Args:
        binding: Of any loop.
        found: `[S]` what is known.
    """
    if not isinstance(found, EmptyMask):
        return []

    def stage(count: int) -> None:
        for lane in found.step.nonzero().flatten().tolist()[:1]:
            raise _refusal(binding.seeds[lane], int(found.number[lane]), int(found.step[lane]))

    return [stage]


def check_window(binding: Binding, cycle: int = 0) -> list[Stage]:
    """Return the stage that refuses such a mask in the window collected last; none where there are no masks.

    Args:
        binding: Of a loop that collects windows.
        cycle: Which window of an iteration it is.
    """
    if isinstance(binding.env, envs.HostEnv):
        return []
    env = lanes.Lanes(binding.env).first
    if not masks.is_masked(env.observation_space):
        return []

    def stage(count: int) -> None:
        assert binding.collector is not None
        mask = binding.collector.window.transition.obs[masks.MASK]
        for step, lane, number in masks.allow_nothing(mask, env.action_space).nonzero()[:1].tolist():
            before = (count * binding.num_cycles + cycle) * mask.shape[0]
            raise _refusal(binding.seeds[lane], number, before + step + 1)

    return [stage]


def _refusal(seed: int, number: int, step: int) -> ValueError:
    place = f"environment {number} of seed {seed} in its step {step}"
    return ValueError(
        f"train: obs[{masks.MASK!r}] of {place} must allow an action of every choice, got none."
    )
