"""Freeway-MinAtar: a chicken crosses a road of eight lanes."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from funcrl.core import tree
from funcrl.envs.minatar.game import DOWN, NOTHING, SIZE, UP, Game, cell, cells, counted_down, moved, number

NUM_CARS = 8
PATIENCE = 3
"""steps from one of the chicken's moves to the next"""
TIME = 2500
COLUMN = 4
"""in which the chicken walks"""


@tree.struct
class Board:
    """Where everything is, each `[]` int64 if not said otherwise."""

    chicken: Tensor
    """row"""
    wait: Tensor
    """steps until it may move"""
    time: Tensor
    """steps that are left"""
    column: Tensor
    """`[8]` of the cars, of which one is in each row but the first and the last"""
    timer: Tensor
    """`[8]` steps until a car moves"""
    speed: Tensor
    """`[8]` from -5 to 5 without 0: steps from one of a car's moves to the next, but for one; to the left below 0"""


@tree.struct
class Freeway(Game):
    """The game; see `Game` for what all share.

    A chicken that reaches the other side pays 1, begins again below, and cars take other speeds and directions. One that is
    hit by a car begins again without. The game ends after 2501 steps. It does not become harder.

    Channels: chicken, car, and for each speed from 1, the fastest, to 5 where a car of that speed was. Minimal actions:
    nothing, up, down.
    """

    CHANNELS: ClassVar[tuple[str, ...]] = (
        "chicken",
        "car",
        "speed 1",
        "speed 2",
        "speed 3",
        "speed 4",
        "speed 5",
    )
    MINIMAL: ClassVar[tuple[int, ...]] = (NOTHING, UP, DOWN)
    NUM_CHOICES: ClassVar[int] = 2 * NUM_CARS

    def begin(self, choices: Tensor) -> Board:
        """Return a chicken at the bottom, and all cars at the left."""
        speed = _speeds(choices)
        return Board(
            chicken=number(SIZE - 1, speed),
            wait=number(PATIENCE, speed),
            time=number(TIME, speed),
            column=torch.zeros_like(speed),
            timer=speed.abs(),
            speed=speed,
        )

    def play(self, board: Board, action: Tensor, choices: Tensor) -> tuple[Board, Tensor, Tensor]:
        """Move the chicken, then the cars."""
        walks = (board.wait == 0) & ((action == UP) | (action == DOWN))
        chicken = torch.where(walks, moved(board.chicken, action, UP, DOWN), board.chicken)
        wait = torch.where(walks, PATIENCE, board.wait)
        across = chicken == 0
        chicken = torch.where(across, SIZE - 1, chicken)
        speed = torch.where(across, _speeds(choices), board.speed)
        timer = torch.where(across, speed.abs(), board.timer)

        moves = timer == 0
        column = torch.where(moves, (board.column + speed.sign()) % SIZE, board.column)
        hit = (_rows(speed) == chicken) & ((board.column == COLUMN) | (column == COLUMN))
        time = board.time - 1
        after = Board(
            chicken=torch.where(hit.any(), SIZE - 1, chicken),
            wait=counted_down(wait),
            time=time,
            column=column,
            timer=torch.where(moves, speed.abs(), timer - 1),
            speed=speed,
        )
        return after, across, time < 0

    def channels(self, board: Board) -> list[Tensor]:
        """Return the chicken, cars, and where they were by their speeds."""
        rows = _rows(board.speed)
        behind = (board.column - board.speed.sign()) % SIZE
        trails = [cells(rows, behind, board.speed.abs() == speed) for speed in range(1, 6)]
        everywhere = torch.ones_like(rows, dtype=torch.bool)
        at = torch.full_like(board.chicken, COLUMN)
        return [cell(board.chicken, at), cells(rows, board.column, everywhere), *trails]


def _rows(like: Tensor) -> Tensor:
    return torch.arange(1, 1 + NUM_CARS, device=like.device)


def _speeds(choices: Tensor) -> Tensor:
    """Return new speeds, `[8]`: how fast by the first eight choices, to the right by the others."""
    fast = 1 + (choices[:NUM_CARS] * 5).to(torch.int64)
    return torch.where(choices[NUM_CARS:] >= 0.5, fast, -fast)
