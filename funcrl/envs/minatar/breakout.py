"""Breakout-MinAtar: a paddle, a ball, three rows of bricks."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from funcrl.core import tree
from funcrl.envs.minatar.game import (
    LEFT,
    NOTHING,
    RIGHT,
    SIZE,
    Game,
    cell,
    drawn,
    moved,
    number,
    places,
    some,
)


@tree.struct
class Board:
    """Where everything is, each `[]` int64 if not said otherwise."""

    paddle: Tensor
    """column"""
    row: Tensor
    """of the ball"""
    column: Tensor
    last_row: Tensor
    """where the ball was a step ago"""
    last_column: Tensor
    heading: Tensor
    """of the ball: 0 up left, 1 up right, 2 down right, 3 down left"""
    bricks: Tensor
    """`[100]` boolean"""
    struck: Tensor
    """`[]` boolean: the last step struck a brick, and the next one cannot"""


@tree.struct
class Breakout(Game):
    """The game; see `Game` for what all share.

    The ball flies along diagonals and is thrown back by walls, bricks and the paddle: by its middle the way it came, by
    the cell that the ball is about to enter to the side. A brick pays 1 and is gone; three new rows come when all
    are. The game is over when the ball passes the paddle. It begins at one of two places.

    Channels: paddle, ball, trail (where the ball was), bricks. Minimal actions: nothing, left, right.
    """

    CHANNELS: ClassVar[tuple[str, ...]] = ("paddle", "ball", "trail", "brick")
    MINIMAL: ClassVar[tuple[int, ...]] = (NOTHING, LEFT, RIGHT)
    NUM_CHOICES: ClassVar[int] = 1

    def begin(self, choices: Tensor) -> Board:
        """Return a ball in one of the upper corners, and all bricks."""
        right = drawn(choices[0], 0, 2)
        row, column = number(3, right), right * (SIZE - 1)
        return Board(
            paddle=number(4, right),
            row=row,
            column=column,
            last_row=row,
            last_column=column,
            heading=2 + right,
            bricks=_wall(right),
            struck=number(False, right),
        )

    def play(self, board: Board, action: Tensor, choices: Tensor) -> tuple[Board, Tensor, Tensor]:
        """Move the paddle, then the ball."""
        paddle = moved(board.paddle, action, LEFT, RIGHT)
        heading = board.heading
        to_right, to_bottom = (heading == 1) | (heading == 2), heading >= 2
        across = board.column + 2 * to_right.to(torch.int64) - 1
        column = across.clamp(0, SIZE - 1)
        heading = torch.where(column != across, heading ^ 1, heading)
        down = board.row + 2 * to_bottom.to(torch.int64) - 1

        above = down < 0
        here = cell(down, column)
        on_brick = ~above & some(board.bricks & here)
        strikes = on_brick & ~board.struck
        at_bottom = ~above & ~on_brick & (down == SIZE - 1)
        bricks = board.bricks & ~(here & strikes)
        bricks = torch.where(at_bottom & ~some(bricks), _wall(down), bricks)
        middle = at_bottom & (board.column == paddle)
        side = at_bottom & ~middle & (column == paddle)
        heading = torch.where(above | strikes | middle, heading ^ 3, torch.where(side, heading ^ 2, heading))
        row = torch.where(strikes | middle | side, board.row, down.clamp(0, SIZE - 1))
        after = Board(
            paddle=paddle,
            row=row,
            column=column,
            last_row=board.row,
            last_column=board.column,
            heading=heading,
            bricks=bricks,
            struck=on_brick & (board.struck | strikes),
        )
        return after, strikes, at_bottom & ~middle & ~side

    def channels(self, board: Board) -> list[Tensor]:
        """Return paddle, ball, trail and bricks."""
        bottom = torch.full_like(board.paddle, SIZE - 1)
        return [
            cell(bottom, board.paddle),
            cell(board.row, board.column),
            cell(board.last_row, board.last_column),
            board.bricks,
        ]


def _wall(like: Tensor) -> Tensor:
    """Return three rows of bricks, `[100]` boolean."""
    number = places(like)
    return (number >= SIZE) & (number < 4 * SIZE)
