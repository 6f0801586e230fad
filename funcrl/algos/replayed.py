"""What all share that learn from replayed experience: settings, what they describe, and what a batch has to hold."""

from __future__ import annotations

import math
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from funcrl import nets, optim
from funcrl.core import ReplayBatch, checks, collective, tree
from funcrl.nets.mlp import ACTIVATIONS
from funcrl.optim import descending

REPLAY = ("uniform", "prioritised")

STORAGE = ("", "uint8", "int16", "float16", "bfloat16")


@tree.struct
class ReplaySettings:
    """Settings of an algorithm that the off-policy loop trains.

    Every float may differ between lanes; integers, names and networks belong to the program.
    """

    learning_rate: float = 2.5e-4
    """step size α of Adam"""
    anneal_steps: float = math.inf
    """environment steps over which the learning rate falls linearly to zero; 0: the whole run where its length is known; inf: never"""
    gamma: float = 0.99
    """discount γ, in [0, 1]"""
    tau: float = 1.0
    """τ: how far a target network goes towards the online one at each visit, in [0, 1]; 1 copies"""
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
    replay: str = tree.static(default="uniform")
    """uniform or prioritised"""
    num_envs: int = tree.static(default=1)
    """N: environments of one lane"""
    window_length: int = tree.static(default=10)
    """T: steps of each environment between two rounds of updates"""
    updates_per_window: int = tree.static(default=1)
    """gradient steps in a round"""
    overlap: bool = tree.static(default=False)
    """whether environments on the host take their steps while the agent learns from the windows before, which changes what is
    learnt; pays where steps take long and a core, or a GPU, is left to learn on"""
    warmup_steps: int = tree.static(default=10_000)
    """environment steps before the first round"""
    buffer_size: int = tree.static(default=10_000)
    """transitions that a lane remembers"""
    storage: str = tree.static(default="")
    """dtype to remember observations in: uint8 for whole numbers up to 255, int16, float16, bfloat16; empty: as
    they come"""
    share_frames: bool = tree.static(default=False)
    """whether each frame is remembered once, where observations are stacks of frames (frame_stack=4), instead of twice in each
    stack that it is in"""
    batch_size: int = tree.static(default=128)
    """B: transitions in a gradient step"""
    n_step: int = tree.static(default=1)
    """n: steps whose rewards a target adds up before it bootstraps"""
    hidden: tuple[int, ...] = tree.static(default=(120, 84))
    """width of each hidden layer"""
    channels: tuple[int, ...] = tree.static(default=(32, 32))
    """channels of each convolution, where an observation holds images; bytes are scaled to [0, 1], other values should be
    about 1 in size"""
    stride: int = tree.static(default=2)
    """of each convolution; 1 where the exact place of things matters"""
    activation: str = tree.static(default="relu")
    """elu, gelu, relu, silu or tanh"""
    frozen: tuple[str, ...] = tree.static(default=())
    """patterns of parameters that stay as they are, "features.*": no gradient, no state of the optimiser; what a network keeps
    beside its parameters under these names stays too"""
    rate_factors: tuple[str, ...] = tree.static(default=())
    """by what the step size of some parameters is multiplied, "features.*=0.1"; the first pattern that fits counts"""

    def __post_init__(self) -> None:
        name = checks.name_of(self)
        checks.settings(
            self,
            name,
            unit=("gamma", "tau", "priority_exponent", "importance_exponent"),
            not_negative=("learning_rate", "anneal_steps", "importance_steps"),
            positive=("max_grad_norm", "adam_epsilon"),
            counts=("num_envs", "window_length", "updates_per_window", "buffer_size", "batch_size"),
        )
        checks.settings(
            self, name, counts=("n_step", "hidden", "channels", "stride"), flags=("overlap", "share_frames")
        )
        descending.check_settings(name, self)
        checks.integer(name, "warmup_steps", self.warmup_steps, 0)
        checks.known(name, "activation", self.activation, ACTIVATIONS)
        checks.known(name, "replay", self.replay, REPLAY)
        checks.known(name, "storage", self.storage, STORAGE)
        _check_sizes(name, self)


def network(
    config: ReplaySettings, space: spaces.Space[Any], size: int, hidden: tuple[int, ...] | None = None
) -> nn.Module:
    """Return the network that settings describe, from what a space holds to `size` numbers.

    Args:
        config: The settings.
        space: Of one input.
        size: Numbers that it puts out.
        hidden: Widths of its hidden layers, those of the settings by default.
    """
    return nets.for_observations(
        space,
        config.channels,
        config.hidden if hidden is None else hidden,
        size,
        stride=config.stride,
        activation=config.activation,
        # Weights from U(±1/√fan_in), as those of the references are.
        hidden_gain=None,
        output_gain=None,
    )


def optimizer(config: ReplaySettings, rate: float | Tensor) -> optim.Optimizer:
    """Return Adam behind a clipped gradient, by the settings' `max_grad_norm` and `adam_epsilon`."""
    clipped = optim.clip_by_global_norm(config.max_grad_norm)
    return optim.chain(clipped, optim.adam(rate, epsilon=config.adam_epsilon))


def check_batch(function: str, batch: ReplayBatch, size: int, numbered: bool) -> None:
    """Check that a batch holds as many rows as the settings say, and where actions are numbered one in each.

    Args:
        function: Who complains, `"dqn.update"`.
        batch: The rows.
        size: B.
        numbered: Whether actions are.

    Raises:
        ValueError: When a field has another shape, or numbered actions are no integers.
    """
    # No number in the sentence: to torch.compile it may be a symbol, which has no text.
    hold = "hold config.batch_size rows"
    size = size // collective.parts()
    for name in (*["action"] * numbered, "reward", "discount", "weight"):
        shape = tuple(getattr(batch, name).shape)
        checks.require(shape == (size,), function, f"batch.{name}", f"{hold}, [B]", shape)
    for name in ("obs", "next_obs"):
        for leaf in tree.leaves(getattr(batch, name)):
            shape = tuple(leaf.shape)
            checks.require(shape[:1] == (size,), function, f"batch.{name}", f"{hold}, [B, ...]", shape)
    if numbered:
        kind, instead = batch.action.dtype, "Write action.long()."
        checks.require(kind == torch.int64, function, "batch.action", "be torch.int64", kind, instead)


def _check_sizes(name: str, config: ReplaySettings) -> None:
    size, window = config.buffer_size, config.num_envs * config.window_length
    hold, instead = f"be at most buffer_size = {size}", "Lower it, or raise buffer_size."
    checks.require(config.batch_size <= size, name, "batch_size", hold, config.batch_size, instead)
    checks.require(window <= size, name, "num_envs · window_length", hold, window, instead)
    checks.divides(name, "num_envs", config.num_envs, "buffer_size", size)
    rows = size // config.num_envs
    hold = f"be at most buffer_size / num_envs = {rows}"
    checks.require(config.n_step <= rows, name, "n_step", hold, config.n_step, instead)
