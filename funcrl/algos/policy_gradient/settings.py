"""The settings that all agents have which learn a policy, and the value of it."""

from __future__ import annotations

import math

from torch import nn

from funcrl.core import checks, tree
from funcrl.nets.mlp import ACTIVATIONS
from funcrl.nets.recurrent import CELLS
from funcrl.optim import descending

ACTION_NOISE = ("independent", "state_dependent", "smooth")


@tree.struct
class Settings:
    """Settings of a policy-gradient algorithm.

    Every float may differ between lanes; integers, names and networks belong to the program.
    """

    learning_rate: float = 2.5e-4
    """step size α of the optimiser"""
    anneal_steps: float = 0.0
    """environment steps over which the learning rate falls linearly to zero; 0: the whole run where its length is known; inf: never"""
    gamma: float = 0.99
    """discount γ, in [0, 1]"""
    entropy_weight: float = 0.01
    """c₂: weight of the entropy bonus"""
    value_weight: float = 0.5
    """c₁: weight of the value loss"""
    max_grad_norm: float = 0.5
    """largest global norm of the gradient; inf: no clipping"""
    num_envs: int = tree.static(default=4)
    """N: environments of one lane"""
    hidden: tuple[int, ...] = tree.static(default=(64, 64))
    """width of each hidden layer of actor and critic"""
    channels: tuple[int, ...] = tree.static(default=(32, 32))
    """channels of each convolution, where an observation holds images; none: a perceptron there too"""
    stride: int = tree.static(default=2)
    """of each convolution; 1 where the exact place of things matters"""
    activation: str = tree.static(default="tanh")
    """elu, gelu, relu, silu or tanh"""
    orthogonal: bool = tree.static(default=True)
    """begin actor and critic with orthogonal weights; False: with weights and biases from U(±1/√fan_in), as torch.nn does"""
    initial_log_std: float = 0.0
    """log σ of real actions before anything is learnt, in half widths of their bounds; where action_noise is smooth that
    of each weight, so that features z make exp(this) · |z|; not where the actor puts it out"""
    action_noise: str = tree.static(default="independent")
    """of real actions: independent (of every step anew, with a σ that is learnt beside the actor), state_dependent (the
    actor puts out σ too) or smooth (a function of the observation, one for each window, for a Box; gSDE)"""
    actor: nn.Module | None = tree.static(default=None)
    """your own network from observations to what the policy is made of (logits or means; with state_dependent noise means
    and log σ; with smooth noise as many features as the last of hidden), instead of hidden, channels and activation. Of a
    recurrent agent it is from the numbers that its cell holds. A template: its parameters are drawn anew from each lane's
    key, its own numbers are not used"""
    critic: nn.Module | None = tree.static(default=None)
    """your own network from observations to one value, likewise"""
    frozen: tuple[str, ...] = tree.static(default=())
    """patterns of parameters that stay as they are, "actor.features.*": no gradient, no state of the optimiser; what a network keeps
    beside its parameters under these names stays too"""
    rate_factors: tuple[str, ...] = tree.static(default=())
    """by what the step size of some parameters is multiplied, "actor.features.*=0.1"; the first pattern that fits counts"""

    def __post_init__(self) -> None:
        checks.settings(
            self,
            self.name,
            unit=("gamma",),
            not_negative=("learning_rate", "anneal_steps", "entropy_weight", "value_weight"),
            positive=("max_grad_norm",),
            counts=("num_envs", "hidden", "channels", "stride"),
            flags=("orthogonal",),
        )
        descending.check_settings(self.name, self)
        checks.number(self.name, "initial_log_std", self.initial_log_std, -math.inf, math.inf)
        checks.known(self.name, "activation", self.activation, ACTIVATIONS)
        # What learns from every step has no window for which noise could stay.
        kinds = ACTION_NOISE if hasattr(self, "window_length") else ACTION_NOISE[:2]
        checks.known(self.name, "action_noise", self.action_noise, kinds)
        if self.action_noise == "state_dependent" and isinstance(
            self.initial_log_std, (int, float, list, tuple)
        ):
            hold = "be 0 where action_noise is state_dependent: the actor decides"
            checks.require(
                self.initial_log_std == 0, self.name, "initial_log_std", hold, self.initial_log_std
            )
        if self.action_noise == "smooth":
            instead = "Write hidden=(64, 64)."
            hold = "name a layer where action_noise is smooth: noise is made of what it puts out"
            checks.require(len(self.hidden) > 0, self.name, "hidden", hold, self.hidden, instead)

    @property
    def name(self) -> str:
        """Who complains, `"ppo.Config"`."""
        return checks.name_of(self)


@tree.struct
class WindowSettings(Settings):
    """Settings of those that learn from a window of steps of all environments at a time."""

    window_length: int = tree.static(default=128)
    """T: steps of each environment between two rounds of updates"""
    normalize_observation: bool = tree.static(default=False)
    """see observations in units of their standard deviations so far, which belong to the agent"""
    normalize_reward: bool = tree.static(default=False)
    """learn from rewards in units of the standard deviation of their discounted sums so far"""

    def __post_init__(self) -> None:
        super().__post_init__()
        flags = ("normalize_observation", "normalize_reward")
        checks.settings(self, self.name, counts=("window_length",), flags=flags)


@tree.struct
class RecurrentSettings(WindowSettings):
    """Settings of those that can remember within an episode, see `recurrence`."""

    recurrent_cell: str = tree.static(default="none")
    """gru, lstm or rnn, to remember what was seen before in the episode; none: an action depends on the present
    observation"""
    recurrent_size: int = tree.static(default=64)
    """numbers that the cell holds, and that actor and critic see"""
    sequence_length: int = tree.static(default=8)
    """L: steps that gradients go back through; must divide window_length; compiling takes longer with each"""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.settings(self, self.name, counts=("recurrent_size", "sequence_length"))
        checks.known(self.name, "recurrent_cell", self.recurrent_cell, ("none", *CELLS))
        if self.is_recurrent:
            given = (self.sequence_length, "window_length", self.window_length)
            checks.divides(self.name, "sequence_length", *given)

    @property
    def is_recurrent(self) -> bool:
        """Whether it remembers."""
        return self.recurrent_cell != "none"
