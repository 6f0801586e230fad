"""What stands for a network: a template that says what is computed, and numbers by name."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

Params = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Pure:
    """A network as it trains and as it is used, templates both; from `pure`."""

    training: nn.Module
    evaluating: nn.Module
    learns: bool = False
    """as which of them `apply` runs it; see `learning`"""
    axes: tuple[int, ...] | None = None
    """of each input of one row, where `apply` is to make rows of what it is given"""


Network = nn.Module | Pure
"""what `apply` runs: a template, or two of one network that is not the same while it trains"""
