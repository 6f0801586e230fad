"""Observations that say which actions are valid.

Such an observation is a dict of `observation`, what the agent sees, and `action_mask`, a MultiBinary with a 1 for
each action that is valid: one for each value of a Discrete, for a MultiDiscrete those of one choice after the
other. Being part of the observation, a mask goes wherever that goes: into windows, replay buffers and
minibatches, through evaluation and the bridge to the host, and there is one of the state after each step. Networks
do not see it.

Source: Huang & Ontañón 2022, "A closer look at invalid action masking in policy gradient algorithms",
arXiv 2006.14171; the names are those of PettingZoo.
"""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core.checks import require

OBSERVATION, MASK = "observation", "action_mask"
MASKABLE = (spaces.Discrete, spaces.MultiDiscrete)
"""Spaces of actions of which some can be ruled out."""


def is_masked(space: Any) -> bool:
    """Return whether observations of a space say which actions are valid."""
    return isinstance(space, spaces.Dict) and set(space.spaces) == {OBSERVATION, MASK}


def num_choices(space: Any) -> int:
    """Return the length of a mask over the actions of a Discrete or MultiDiscrete.

    >>> num_choices(spaces.MultiDiscrete([2, 3]))
    5
    """
    return int(space.n) if isinstance(space, spaces.Discrete) else int(space.nvec.sum())


def check(function: str, env: Any) -> None:
    """Check that masks fit the actions, where observations hold any.

    Args:
        function: Who complains, `"ppo.init"`.
        env: Anything with `observation_space` and `action_space`.

    Raises:
        ValueError: When they do not.
    """
    if not is_masked(env.observation_space):
        return
    action, mask = env.action_space, env.observation_space[MASK]
    hold = "be Discrete or MultiDiscrete where observations have an action_mask"
    known = isinstance(action, MASKABLE)
    require(known, function, "env.action_space", hold, action)
    count = num_choices(action)
    fits = isinstance(mask, spaces.MultiBinary) and tuple(mask.shape or ()) == (count,)
    what = f"env.observation_space[{MASK!r}]"
    require(fits, function, what, f"be MultiBinary({count}), as there are that many actions", mask)


def of(obs: Any) -> Tensor | None:
    """Return which actions are valid, `[..., A]` boolean; None where observations do not say it.

    >>> of({"observation": torch.zeros(2), "action_mask": torch.tensor([1, 0])})
    tensor([ True, False])
    """
    if isinstance(obs, dict) and set(obs) == {OBSERVATION, MASK}:
        return obs[MASK] != 0  # type: ignore[no-any-return]
    return None


def allow_nothing(mask: Tensor, space: Any) -> Tensor:
    """Return where a choice has no valid action, `[...]` boolean.

    Args:
        mask: `[..., A]`, the actions of one choice after those of the other.
        space: Of the actions, Discrete or MultiDiscrete.

    >>> allow_nothing(torch.tensor([[1, 0, 0, 0, 1], [1, 1, 0, 0, 0]]), spaces.MultiDiscrete([2, 3]))
    tensor([False,  True])
    """
    sizes = [int(space.n)] if isinstance(space, spaces.Discrete) else space.nvec.flatten().tolist()
    rows = [(part == 0).all(dim=-1) for part in torch.split(mask, sizes, dim=-1)]
    return torch.stack(rows).any(dim=0)


def values(numbers: Tensor, obs: Any) -> Tensor:
    """Return action values `[..., A]` with -inf for actions that are not valid.

    Where none is, as after an episode's end, all values stay: what follows is worth nothing anyway.

    >>> values(torch.tensor([3.0, 4.0]), {"observation": 0, "action_mask": torch.tensor([1, 0])})
    tensor([3., -inf])
    """
    valid = of(obs)
    if valid is None:
        return numbers
    return torch.where(valid | ~valid.any(dim=-1, keepdim=True), numbers, -torch.inf)
