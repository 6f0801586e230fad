"""Environments by name."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from funcrl.core import checks
from funcrl.envs import minatar
from funcrl.envs.acrobot import Acrobot
from funcrl.envs.bernoulli_bandit import GARIVIER_CAPPE, BernoulliBandit
from funcrl.envs.blackjack import Blackjack
from funcrl.envs.cartpole import CartPole
from funcrl.envs.classification_bandit import ClassificationBandit
from funcrl.envs.cliff_walking import CliffWalking
from funcrl.envs.corridor import Corridor
from funcrl.envs.driving import Driving
from funcrl.envs.frozen_lake import FrozenLake
from funcrl.envs.gaussian_bandit import GaussianBandit
from funcrl.envs.grid_navigation import GridNavigation
from funcrl.envs.mountain_car import MountainCar
from funcrl.envs.mountain_car_continuous import MountainCarContinuous
from funcrl.envs.pendulum import Pendulum
from funcrl.envs.position_cartpole import PositionOnlyCartPole
from funcrl.envs.repeat_first import RepeatFirst
from funcrl.envs.stepping import Env
from funcrl.envs.t_maze import TMaze
from funcrl.envs.taxi import Taxi


@dataclass(frozen=True)
class Entry:
    """How to make a named environment."""

    cls: type[Any]
    params: dict[str, Any] = field(default_factory=dict)
    """what the name changes in the class's defaults"""


REGISTRY: dict[str, Entry] = {
    "Acrobot-v1": Entry(Acrobot),
    "Asterix-MinAtar": Entry(minatar.Asterix),
    "BernoulliBandit-v0": Entry(BernoulliBandit, {"means": GARIVIER_CAPPE}),
    "Blackjack-v1": Entry(Blackjack, {"sab": True}),
    "Breakout-MinAtar": Entry(minatar.Breakout),
    "CartPole-v1": Entry(CartPole),
    "CliffWalking-v1": Entry(CliffWalking),
    "CliffWalkingSlippery-v1": Entry(CliffWalking, {"is_slippery": True}),
    "Corridor-v0": Entry(Corridor),
    "DigitsBandit-v0": Entry(ClassificationBandit),
    "DriftingBandit-v0": Entry(GaussianBandit, {"spread": 0.0, "drift": 0.01}),
    "Driving-v0": Entry(Driving),
    "Freeway-MinAtar": Entry(minatar.Freeway),
    "FrozenLake-v1": Entry(FrozenLake),
    "FrozenLake8x8-v1": Entry(FrozenLake, {"map_name": "8x8"}),
    "GaussianBandit-v0": Entry(GaussianBandit),
    "GridNavigation-v0": Entry(GridNavigation),
    "MountainCar-v0": Entry(MountainCar),
    "MountainCarContinuous-v0": Entry(MountainCarContinuous),
    "Pendulum-v1": Entry(Pendulum),
    "PositionOnlyCartPole-v0": Entry(PositionOnlyCartPole),
    "RepeatFirst-v0": Entry(RepeatFirst),
    "Seaquest-MinAtar": Entry(minatar.Seaquest),
    "SpaceInvaders-MinAtar": Entry(minatar.SpaceInvaders),
    "TMaze-v0": Entry(TMaze),
    "Taxi-v3": Entry(Taxi),
    "Taxi-v4": Entry(Taxi),
}
"""Environments that live on the device, by name: Gymnasium's where it has the same environment."""

ALIASES: dict[str, str] = {
    "bernoulli": "BernoulliBandit-v0",
    "digits": "DigitsBandit-v0",
    "drifting": "DriftingBandit-v0",
    "gaussian": "GaussianBandit-v0",
}
"""Short names."""


def full_name(name: str) -> str:
    """Return the name in `REGISTRY` that a short name, or one with `funcrl/` in front, stands for.

    >>> full_name("bernoulli"), full_name("funcrl/CartPole-v1"), full_name("Unknown-v0")
    ('BernoulliBandit-v0', 'CartPole-v1', 'Unknown-v0')
    """
    name = name.removeprefix("funcrl/")
    return ALIASES.get(name, name)


def make(name: str, **params: Any) -> Env:
    """Make an environment.

    Args:
        name: One of `REGISTRY`, for example `"CartPole-v1"`, or of `ALIASES`.
        **params: Fields of the environment to change, for example `half_length=0.7`. A list of
            numbers gives each seed (in `train`) or each environment (in `make_vec`) its own.

    Returns:
        The environment, a struct whose numbers are leaves.

    Raises:
        ValueError: When the name or a parameter is unknown; the nearest ones are offered.

    >>> make("CartPole-v1", half_length=0.7).half_length
    0.7
    """
    name = full_name(name)
    checks.known("envs.make", "name", name, REGISTRY)
    entry = REGISTRY[name]
    checks.fields(f"envs.make({name!r})", entry.cls, params)
    return entry.cls(**(entry.params | params))  # type: ignore[no-any-return]


def make_for_gymnasium(entry_point: str, name: str, params: dict[str, Any]) -> Env:
    """Make an environment for an entry point that takes its fields as keywords.

    An unknown keyword is Python's own `TypeError`, for there is software that tries keywords and goes
    on without those that are refused in these very words.

    Args:
        entry_point: Who complains: `"make_single"`.
        name: See `make`.
        params: Fields of the environment to change.

    Raises:
        TypeError: When a keyword is unknown; the nearest ones are offered.
        ValueError: When the name is unknown, or a value cannot be.

    >>> make_for_gymnasium("make_single", "CartPole-v1", {"gravty": 1.0})
    Traceback (most recent call last):
    TypeError: make_single() got an unexpected keyword argument 'gravty'. Did you mean 'gravity'?
    """
    entry = REGISTRY.get(full_name(name))
    fields = [] if entry is None else [field.name for field in dataclasses.fields(entry.cls)]
    for keyword in params if entry is not None else ():
        if keyword not in fields:
            takes = f"{full_name(name)} takes {', '.join(map(repr, fields))}."
            instead = checks.did_you_mean(keyword, fields) or takes
            raise TypeError(f"{entry_point}() got an unexpected keyword argument {keyword!r}. {instead}")
    return make(name, **params)
