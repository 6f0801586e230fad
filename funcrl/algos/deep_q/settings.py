"""The settings that all agents have which learn Q from replayed experience."""

from __future__ import annotations

import math

from torch import nn

from funcrl.algos import behaviour
from funcrl.algos.replayed import ReplaySettings
from funcrl.core import checks, tree

SHARES_OF_THE_RUN = {"anneal_steps": 1.0, "exploration_steps": 0.5, "importance_steps": 1.0}
"""Settings in which 0 asks for a share of the run, filled in where its length is known."""


@tree.struct
class Settings(ReplaySettings):
    """Settings of a deep Q-learning algorithm; the defaults are those of the reference for CartPole."""

    epsilon: float = 0.05
    """ε of the ε-greedy policy, in [0, 1], once it has fallen"""
    initial_epsilon: float = 1.0
    """ε at the beginning"""
    temperature: float = 1.0
    """β of the Boltzmann policy π(a | s) ∝ exp(Q(s, a) / β), once it has fallen"""
    initial_temperature: float = 10.0
    """β at the beginning"""
    exploration_steps: float = 0.0
    """environment steps over which ε or β falls linearly; 0: half of the run where its length is known"""
    exploration: str = tree.static(default="epsilon_greedy")
    """epsilon_greedy or boltzmann"""
    target_period: int = tree.static(default=50)
    """C: gradient steps between two visits of the target network"""
    network: nn.Module | None = tree.static(default=None)
    """your own network instead of hidden, channels and activation; a template: its parameters are drawn
    anew from each lane's key, its own numbers are not used"""

    def __post_init__(self) -> None:
        super().__post_init__()
        name = checks.name_of(self)
        behaviour.check(name, self)
        checks.settings(self, name, counts=("target_period",))
        checks.require(
            self.target_period < 2**31, name, "target_period", "be below 2**31", self.target_period
        )


@tree.struct
class ErrorSettings(Settings):
    """The settings of those whose loss is a function of the error y - Q(s, a)."""

    huber_threshold: float = math.inf
    """κ: errors beyond it count linearly; inf: the squared error"""

    def __post_init__(self) -> None:
        super().__post_init__()
        name = checks.name_of(self)
        checks.settings(self, name, positive=("huber_threshold",))
