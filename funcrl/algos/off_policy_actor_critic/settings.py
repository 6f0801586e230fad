"""The settings that all agents have whose actors climb what critics learn from replayed experience."""

from __future__ import annotations

import math

from torch import nn

from funcrl.algos.replayed import ReplaySettings
from funcrl.core import checks, tree

DEFAULT_STEPS = 100_000
"""Environment steps of a lane in a run where nothing else is said: each is a gradient step by default."""

SHARES_OF_THE_RUN = {"anneal_steps": 1.0, "importance_steps": 1.0}
"""Settings in which 0 asks for a share of the run, filled in where its length is known."""

NOISE = ("normal", "ornstein_uhlenbeck")


@tree.struct
class Settings(ReplaySettings):
    """Settings of an off-policy actor-critic; the defaults are those of the reference implementations for joints of robots."""

    learning_rate: float = 3e-4
    """step size α of Adam, of the critics"""
    tau: float = 0.005
    """τ: how far a target network goes towards the online one at each visit, in [0, 1]; 1 copies"""
    actor_learning_rate: float = 0.0
    """step size of the actor (and of the temperature, where there is one); 0: as that of the critics"""
    window_length: int = tree.static(default=1)
    """T: steps of each environment between two rounds of updates"""
    updates_per_window: int = tree.static(default=1)
    """gradient steps in a round; divided by num_envs · window_length this is the update-to-data ratio"""
    warmup_steps: int = tree.static(default=1_000)
    """environment steps before the first round, with actions from all of the space alike"""
    buffer_size: int = tree.static(default=100_000)
    """transitions that a lane remembers"""
    batch_size: int = tree.static(default=256)
    """B: transitions in a gradient step"""
    hidden: tuple[int, ...] = tree.static(default=(256, 256))
    """width of each hidden layer of actor and critics"""
    actor: nn.Module | None = tree.static(default=None)
    """your own network from observations to what the policy is made of (with smooth noise: to as many features as the last
    of hidden), instead of hidden, channels and activation; a template: its parameters are drawn anew from each lane's key,
    its own numbers are not used"""
    critic: nn.Module | None = tree.static(default=None)
    """your own network from a pair of observations and actions, `[B, D]` in ±1, to what a critic puts out; likewise"""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.settings(self, checks.name_of(self), not_negative=("actor_learning_rate",))


@tree.struct
class DeterministicSettings(Settings):
    """Settings of those whose actor is a function of the state, so that they have to add noise to explore."""

    learning_rate: float = 1e-3
    """step size α of Adam, of the critics"""
    exploration_noise: float = 0.1
    """σ of the noise that is added to actions in ±1; where it is of Ornstein and Uhlenbeck's kind that of each of its steps"""
    noise_decay: float = 0.15
    """θ: share of Ornstein and Uhlenbeck's noise that each step forgets, in [0, 1]"""
    noise: str = tree.static(default="normal")
    """normal, drawn anew in each step, or ornstein_uhlenbeck, which goes on from step to step within an episode:
    x ← (1 - θ) x + σ ε"""

    def __post_init__(self) -> None:
        super().__post_init__()
        name = checks.name_of(self)
        checks.settings(self, name, unit=("noise_decay",), not_negative=("exploration_noise",))
        checks.number(name, "exploration_noise", self.exploration_noise, -math.inf, math.inf)
        checks.known(name, "noise", self.noise, NOISE)
