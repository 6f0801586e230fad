"""Running moments of what an agent sees and earns, as part of the agent, and what it makes of them.

    s̃ = clip((s - μ) / √(σ² + ε), ±10)            of every part of an observation that is a Box of floats
    r̃ = clip(r / √(Var[R] + ε), ±10),   R_t = γ R_{t-1} + r_t, 0 before an episode's first step

as in OpenAI's baselines (`VecNormalize`), with one departure: moments change from window to window and not from step
to step. So a window is collected, prepared and learnt from with the same ones, and the ratio of new to old
probabilities begins at 1. The first window is seen as it comes. Being part of the agent, moments are evaluated,
saved and handed on with it; returns that are reported are those of the environment.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from funcrl.core import Transition, loops, tree
from funcrl.nets import inputs
from funcrl.ops.moments import Moments, merge_moments, moments

EPSILON, CLIP = 1e-8, 10.0


@tree.struct
class Normalizer:
    """What an agent knows of its observations and rewards."""

    observation: tuple[Moments, ...]
    """of each part that is normalised, none where observations are taken as they come"""
    reward: Moments | tuple[()]
    """of R; `()` where rewards are taken as they come"""
    discounted: Tensor | tuple[()]
    """`[N]` R after the last step of each environment; `()` likewise"""
    paths: tuple[tuple[Any, ...], ...] = tree.static()
    """what leads to each of these parts"""


def begin(config: Any, space: Any, device: torch.device) -> Normalizer:
    """Return what an agent knows before its first step.

    Args:
        config: Settings, with `normalize_observation`, `normalize_reward` and `num_envs`.
        space: Of observations.
        device: Where it lives.
    """
    parts = inputs.parts(space, images=len(config.channels) > 0) if config.normalize_observation else ()
    chosen = [part for part in parts if isinstance(part, inputs.Numbers) and _is_float(space, part)]
    zeros = torch.zeros(config.num_envs, dtype=torch.float32, device=device)
    return Normalizer(
        observation=tuple(moments(part.shape, device) for part in chosen),
        reward=moments((), device) if config.normalize_reward else (),
        discounted=zeros if config.normalize_reward else (),
        paths=tuple(part.path for part in chosen),
    )


def observation(known: Normalizer, obs: Any) -> Any:
    """Return observations `[...]` in units of their standard deviations."""
    for held, path in zip(known.observation, known.paths, strict=True):
        scale = torch.sqrt(held.variance + EPSILON)
        obs = _changed(obs, path, lambda x, m=held, s=scale: torch.clamp((x - m.mean) / s, -CLIP, CLIP))
    return obs


def reward(known: Normalizer, rewards: Tensor) -> Tensor:
    """Return rewards `[...]` in units of the standard deviation of R."""
    if not isinstance(known.reward, Moments):
        return rewards
    return torch.clamp(rewards / torch.sqrt(known.reward.variance + EPSILON), -CLIP, CLIP)


def observe(known: Any, window: Transition, gamma: Tensor) -> Any:
    """Return what an agent knows after a window.

    Args:
        known: `Normalizer`, what it knew before.
        window: `[T, N, ...]`.
        gamma: `[]` discount of R.
    """
    held = tuple(
        merge_moments(old, inputs.value_at(window.obs, path).flatten(0, 1))
        for old, path in zip(known.observation, known.paths, strict=True)
    )
    known = tree.replace(known, observation=held)
    if not isinstance(known.reward, Moments):
        return known
    over = window.terminated | window.truncated
    goes_on = gamma * (~over).to(torch.float32)
    before = torch.cat([torch.zeros_like(goes_on[:1]), goes_on[:-1]])
    first = (window.reward[0] + gamma * known.discounted).unsqueeze(0)
    sums = loops.linear_recurrence(before, torch.cat([first, window.reward[1:]]))
    last = torch.where(over[-1], 0.0, sums[-1])
    return tree.replace(known, reward=merge_moments(known.reward, sums.flatten()), discounted=last)


def _is_float(space: Any, part: inputs.Part) -> bool:
    return inputs.value_at(inputs.example(space), part.path).is_floating_point()


def _changed(obs: Any, path: tuple[Any, ...], change: Any) -> Any:
    """Return an observation of which one part is changed."""
    if not path:
        return change(obs)
    key, *rest = path
    new = _changed(obs[key], tuple(rest), change)
    if isinstance(obs, dict):
        return {**obs, key: new}
    return tuple(new if i == key else part for i, part in enumerate(obs))
