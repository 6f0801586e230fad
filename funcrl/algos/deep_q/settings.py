"""The settings that all agents have which learn Q from replayed experience."""

from __future__ import annotations

import math

from torch import nn

from funcrl.algos import behaviour
from funcrl.core import checks, tree
from funcrl.nets.mlp import ACTIVATIONS

REPLAY = ("uniform", "prioritised")

STORAGE = ("", "uint8", "int16", "float16", "bfloat16")

SHARES_OF_THE_RUN = {"anneal_steps": 1.0, "exploration_steps": 0.5, "importance_steps": 1.0}
"""Settings in which 0 asks for a share of the run, filled in where its length is known."""


@tree.struct
class Settings:
    """Settings of a deep Q-learning algorithm; the defaults are those of the reference for CartPole.

    Every float may differ between lanes; integers, names and networks belong to the program.
    """

    learning_rate: float = 2.5e-4
    """step size α of Adam"""
    anneal_steps: float = math.inf
    """environment steps over which the learning rate falls linearly to zero; 0: the whole run where its length is known; inf: never"""
    gamma: float = 0.99
    """discount γ, in [0, 1]"""
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
    tau: float = 1.0
    """τ: how far the target network goes towards the online one at each visit, in [0, 1]; 1 copies"""
    max_grad_norm: float = math.inf
    """largest global norm of the gradient; inf: no clipping"""
    adam_epsilon: float = 1e-8
    """ε of Adam"""
    priority_exponent: float = 0.6
    """α of prioritised replay, in [0, 1]: 0 draws uniformly, 1 in proportion to the error"""
    importance_exponent: float = 0.4
    """β of prioritised replay at the beginning, in [0, 1]: how far its bias is weighed away; rises to 1"""
    importance_steps: float = 0.0
    """environment steps over which β rises to 1; 0: the whole run where its length is known; inf: never"""
    exploration: str = tree.static(default="epsilon_greedy")
    """epsilon_greedy or boltzmann"""
    replay: str = tree.static(default="uniform")
    """uniform or prioritised"""
    num_envs: int = tree.static(default=1)
    """N: environments of one lane"""
    window_length: int = tree.static(default=10)
    """T: steps of each environment between two rounds of updates"""
    updates_per_window: int = tree.static(default=1)
    """gradient steps in a round"""
    warmup_steps: int = tree.static(default=10_000)
    """environment steps before the first round"""
    buffer_size: int = tree.static(default=10_000)
    """transitions that a lane remembers"""
    storage: str = tree.static(default="")
    """dtype to remember observations in: uint8 for whole numbers up to 255, int16, float16, bfloat16; empty: as
    they come"""
    batch_size: int = tree.static(default=128)
    """B: transitions in a gradient step"""
    n_step: int = tree.static(default=1)
    """n: steps whose rewards a target adds up before it bootstraps"""
    target_period: int = tree.static(default=50)
    """C: gradient steps between two visits of the target network"""
    hidden: tuple[int, ...] = tree.static(default=(120, 84))
    """width of each hidden layer"""
    channels: tuple[int, ...] = tree.static(default=(32, 32))
    """channels of each convolution, where an observation is an image [C, H, W]; values should be about 1
    in size, and are not scaled"""
    stride: int = tree.static(default=2)
    """of each convolution; 1 where the exact place of things matters"""
    activation: str = tree.static(default="relu")
    """elu, gelu, relu, silu or tanh"""
    network: nn.Module | None = tree.static(default=None)
    """your own network instead of hidden, channels and activation; a template: its parameters are drawn
    anew from each lane's key, its own numbers are not used"""

    def __post_init__(self) -> None:
        name = checks.name_of(self)
        behaviour.check(name, self)
        checks.settings(
            self,
            name,
            unit=("gamma", "tau", "priority_exponent", "importance_exponent"),
            not_negative=("learning_rate", "anneal_steps", "importance_steps"),
            positive=("max_grad_norm", "adam_epsilon"),
            counts=("num_envs", "window_length", "updates_per_window", "buffer_size", "batch_size"),
        )
        checks.settings(self, name, counts=("n_step", "target_period", "hidden", "channels", "stride"))
        checks.integer(name, "warmup_steps", self.warmup_steps, 0)
        checks.require(
            self.target_period < 2**31, name, "target_period", "be below 2**31", self.target_period
        )
        checks.known(name, "activation", self.activation, ACTIVATIONS)
        checks.known(name, "replay", self.replay, REPLAY)
        checks.known(name, "storage", self.storage, STORAGE)
        _check_sizes(name, self)


@tree.struct
class ErrorSettings(Settings):
    """The settings of those whose loss is a function of the error y - Q(s, a)."""

    huber_threshold: float = math.inf
    """κ: errors beyond it count linearly; inf: the squared error"""

    def __post_init__(self) -> None:
        super().__post_init__()
        name = checks.name_of(self)
        checks.settings(self, name, positive=("huber_threshold",))


def _check_sizes(name: str, config: Settings) -> None:
    size, window = config.buffer_size, config.num_envs * config.window_length
    hold, instead = f"be at most buffer_size = {size}", "Lower it, or raise buffer_size."
    checks.require(config.batch_size <= size, name, "batch_size", hold, config.batch_size, instead)
    checks.require(window <= size, name, "num_envs · window_length", hold, window, instead)
    checks.divides(name, "num_envs", config.num_envs, "buffer_size", size)
    rows = size // config.num_envs
    hold = f"be at most buffer_size / num_envs = {rows}"
    checks.require(config.n_step <= rows, name, "n_step", hold, config.n_step, instead)
