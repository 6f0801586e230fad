"""Recurrent cells from plain operations: torch's own have no rule for `vmap`.

What a cell remembers is a carry, a tuple of `[B, H]` tensors of which the first is what others see of it; all
zeros where an episode begins.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from funcrl.core import checks
from funcrl.nets import initialisers
from funcrl.nets.inputs import Part, parts, value_at
from funcrl.nets.mlp import activated
from funcrl.nets.observations import for_observations

Carry = tuple[Tensor, ...]


class Cell(nn.Module):
    """What RNN, GRU and LSTM share: parameters with torch's names and layout, on the meta device.

    Orthogonal weights and zero biases (Huang et al. 2022, "The 37 implementation details of PPO", LSTM, 1).
    """

    num_gates: int
    num_carries: int

    def __init__(self, input_size: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.initialisers = {
            "weight_ih": initialisers.orthogonal(),
            "weight_hh": initialisers.orthogonal(),
            "bias_ih": initialisers.constant(0.0),
            "bias_hh": initialisers.constant(0.0),
        }
        rows = self.num_gates * size
        empty = functools.partial(torch.empty, dtype=torch.float32, device="meta")
        self.weight_ih = nn.Parameter(empty(rows, input_size))
        self.weight_hh = nn.Parameter(empty(rows, size))
        self.bias_ih = nn.Parameter(empty(rows))
        self.bias_hh = nn.Parameter(empty(rows))

    def forward(self, x: Tensor, carry: Carry, begins: Tensor | None = None) -> Carry:
        """Go through L steps of B sequences.

        Args:
            x: `[B, L, X]` what comes in.
            carry: `[B, H]` each, before the first step.
            begins: `[B, L]` boolean; True where an episode begins, and nothing of before is remembered. By default all
                goes on from the carry.

        Returns:
            `[B, L, H]` each, after every step.
        """
        # What does not depend on the step before is one product for all steps. Each step is traced and compiled, so
        # it is written with as few operations as there can be: slices, for one, have costly gradients.
        given = (x.flatten(0, 1) @ self.weight_ih.T + self.bias_ih).reshape(*x.shape[:2], -1)
        kept = None if begins is None else (~begins).to(x.dtype).unsqueeze(-1).unbind(1)
        weight, after = self.weight_hh.T, []
        for step, now in enumerate(given.unbind(1)):
            carry = carry if kept is None else tuple(each * kept[step] for each in carry)
            carry = self.advance(now, carry[0] @ weight + self.bias_hh, carry)
            after.append(carry)
        return tuple(torch.stack(each, dim=1) for each in zip(*after, strict=True))

    def advance(self, given: Tensor, recalled: Tensor, carry: Carry) -> Carry:
        """Return the carry after one step.

        Args:
            given: `[B, G · H]` W_ih x + b_ih.
            recalled: `[B, G · H]` W_hh h + b_hh.
            carry: `[B, H]` each, before.
        """
        raise NotImplementedError


class RNN(Cell):
    """The plain recurrent cell; equal to `torch.nn.RNN` with tanh.

    Source: Elman 1990, "Finding structure in time".

        h' = tanh(W_ih x + b_ih + W_hh h + b_hh)
    """

    num_gates, num_carries = 1, 1

    def advance(self, given: Tensor, recalled: Tensor, carry: Carry) -> Carry:
        """Return `(h',)`."""
        return (torch.tanh(given + recalled),)


class GRU(Cell):
    """Gated recurrent unit; equal to `torch.nn.GRU`.

    Source: Cho et al. 2014, arXiv 1406.1078, with the reset gate behind the product as in cuDNN and torch.

        r, z = σ(W_i x + b_i + W_h h + b_h)
        n = tanh(W_in x + b_in + r (W_hn h + b_hn))
        h' = (1 - z) n + z h
    """

    num_gates, num_carries = 3, 1

    def advance(self, given: Tensor, recalled: Tensor, carry: Carry) -> Carry:
        """Return `(h',)`."""
        (hidden,) = carry
        reset_given, update_given, new_given = given.chunk(3, dim=-1)
        reset_recalled, update_recalled, new_recalled = recalled.chunk(3, dim=-1)
        update = torch.sigmoid(update_given + update_recalled)
        new = torch.tanh(new_given + torch.sigmoid(reset_given + reset_recalled) * new_recalled)
        return (new + update * (hidden - new),)


class LSTM(Cell):
    """Long short-term memory; equal to `torch.nn.LSTM`.

    Source: Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000.

        i, f, o = σ(W_i x + b_i + W_h h + b_h),  g = tanh(likewise)
        c' = f c + i g,  h' = o tanh(c')
    """

    num_gates, num_carries = 4, 2

    def advance(self, given: Tensor, recalled: Tensor, carry: Carry) -> Carry:
        """Return `(h', c')`."""
        _, cell = carry
        into, forget, new, out = (given + recalled).chunk(4, dim=-1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(into) * torch.tanh(new)
        return torch.sigmoid(out) * torch.tanh(cell), cell


CELLS: dict[str, type[Cell]] = {"gru": GRU, "lstm": LSTM, "rnn": RNN}


class Recurrent(nn.Module):
    """A cell behind a network that reads observations; built by `recurrent`."""

    def __init__(self, part: Part, encoder: nn.Module, cell: Cell) -> None:
        super().__init__()
        self.part = part
        self.encoder = encoder
        self.cell = cell

    def forward(self, obs: Any, carry: Carry, begins: Tensor | None = None) -> Carry:
        """Go on from a carry.

        Args:
            obs: `[..., ]` one observation for each carry; with `begins`, `[B, L, ...]` sequences.
            carry: `[..., H]` each, before the observation; with `begins`, `[B, H]` before the first.
            begins: `[B, L]` boolean, see `Cell`.

        Returns:
            `[..., H]` each, after the observation; with `begins`, `[B, L, H]` after every one.

        Raises:
            ValueError: When the carry is one of other sequences, or of another cell.
        """
        leading = self.leading(obs) if begins is None else self.leading(obs)[:-1]
        self.check_carry("remember", carry, leading)
        x = self.encoder(obs)
        if begins is not None:
            found = (tuple(begins.shape), begins.dtype) if isinstance(begins, Tensor) else begins
            hold = f"be boolean, {self.leading(obs)}"
            checks.require(found == (self.leading(obs), torch.bool), "remember", "begins", hold, found)
            return self.cell(x, carry, begins)  # type: ignore[no-any-return]
        rows = x.reshape(-1, 1, x.shape[-1])
        one = tuple(each.reshape(-1, each.shape[-1]) for each in carry)
        after = self.cell(rows, one, torch.zeros(rows.shape[:2], dtype=torch.bool, device=x.device))
        return tuple(each.reshape(*leading, -1) for each in after)

    def initial_carry(self, device: torch.device) -> Carry:
        """Return what is remembered where an episode begins: `[H]` zeros each."""
        nothing = torch.zeros(self.cell.size, dtype=torch.float32, device=device)
        return (nothing,) * self.cell.num_carries

    def leading(self, obs: Any) -> tuple[int, ...]:
        """Return the axes in front of observations, `()` for a single one."""
        value = value_at(obs, self.part.path)
        return tuple(value.shape[: value.ndim - len(self.part.shape)])

    def check_carry(self, function: str, carry: Any, leading: tuple[int, ...]) -> None:
        """Check that a carry is one of this cell's, with a row for each observation.

        Args:
            function: Who complains.
            carry: What was given.
            leading: Axes in front of the observations.

        Raises:
            ValueError: When it is not.
        """
        wanted = [(*leading, self.cell.size)] * self.cell.num_carries
        found: Any = [tuple(x.shape) for x in carry] if isinstance(carry, tuple) else type(carry)
        hold = f"hold {' and '.join(map(str, wanted))}, one row for each observation"
        instead = "Begin with initial_carry, and go on with what remember returns."
        checks.require(found == wanted, function, "carry", hold, found, instead)


def recurrent(
    space: spaces.Space[Any], cell: str, size: int, channels: tuple[int, ...], stride: int, activation: str
) -> Recurrent:
    """Return the template of a network that remembers observations of a space.

    One layer (convolutions before it, where there are images) turns an observation into as many numbers as the
    cell has, and the cell goes on from there. The same arguments return the same object.

    Args:
        space: Of one observation, one of `inputs.KINDS`.
        cell: One of `CELLS`.
        size: H, numbers that the cell shows.
        channels: See `for_observations`.
        stride: See `for_observations`.
        activation: Behind the layer; one of `mlp.ACTIVATIONS`.

    >>> recurrent(spaces.Box(-1, 1, (3,)), "lstm", 8, (), 1, "tanh").cell.weight_hh.shape
    torch.Size([32, 8])
    """
    checks.known("nets.recurrent", "cell", cell, CELLS)
    encoder = for_observations(
        space, channels, (), size, stride=stride, activation=activation, output_gain=2.0**0.5
    )
    return _cached(parts(space)[0], activated(encoder, activation), cell, size)


@functools.cache
def _cached(part: Part, encoder: nn.Module, cell: str, size: int) -> Recurrent:
    return Recurrent(part, encoder, CELLS[cell](size, size))
