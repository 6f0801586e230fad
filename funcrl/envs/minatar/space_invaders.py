"""SpaceInvaders-MinAtar: a cannon below, aliens above."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from funcrl.core import tree
from funcrl.envs.minatar.game import (
    FIRE,
    LEFT,
    NOTHING,
    RIGHT,
    SIZE,
    Game,
    cell,
    counted_down,
    moved,
    number,
    places,
    some,
)

COOL_DOWN = 5
"""steps from one shot of the cannon to the next"""
SHOT_INTERVAL = 10
"""steps from one shot of the aliens to the next"""
FIRST_MOVE, LAST_MOVE = 12, 6


@tree.struct
class Board:
    """Where everything is, each `[]` int64 if not said otherwise."""

    cannon: Tensor
    """column"""
    aliens: Tensor
    """`[100]` boolean"""
    heading: Tensor
    """of the aliens, -1 to the left and 1 to the right"""
    shots: Tensor
    """`[100]` boolean: the cannon's"""
    bombs: Tensor
    """`[100]` boolean: the aliens'"""
    shot_timer: Tensor
    move_timer: Tensor
    move_interval: Tensor
    """steps from one move of the aliens to the next, where there are as many"""
    bomb_timer: Tensor


@tree.struct
class SpaceInvaders(Game):
    """The game; see `Game` for what all share.

    Every alien that is shot pays 1. Aliens move to one side, one row down at the edge, and back, the faster the fewer there are;
    the one nearest to the cannon's column shoots. When all are gone others come, which are a little faster than
    those before. The game is over when a bomb or an alien meets the cannon, or aliens want to go further down than the last row.

    Channels: cannon, alien, aliens that go left, aliens that go right, the cannon's shots, the aliens' bombs. Minimal
    actions: nothing, left, right, fire.
    """

    CHANNELS: ClassVar[tuple[str, ...]] = ("cannon", "alien", "to the left", "to the right", "shot", "bomb")
    MINIMAL: ClassVar[tuple[int, ...]] = (NOTHING, LEFT, RIGHT, FIRE)

    def begin(self, choices: Tensor) -> Board:
        """Return a cannon in the middle and four rows of aliens."""
        nothing = torch.zeros(SIZE * SIZE, dtype=torch.bool, device=choices.device)
        return Board(
            cannon=number(5, choices),
            aliens=_wave(choices),
            heading=number(-1, choices),
            shots=nothing,
            bombs=nothing,
            shot_timer=number(0, choices),
            move_timer=number(FIRST_MOVE, choices),
            move_interval=number(FIRST_MOVE, choices),
            bomb_timer=number(SHOT_INTERVAL, choices),
        )

    def play(self, board: Board, action: Tensor, choices: Tensor) -> tuple[Board, Tensor, Tensor]:
        """Act, move what was shot, then the aliens, and take away what is hit."""
        fires = (action == FIRE) & (board.shot_timer == 0)
        cannon = moved(board.cannon, action, LEFT, RIGHT)
        bottom = torch.full_like(cannon, SIZE - 1)
        here, number = cell(bottom, cannon), places(cannon)
        lowest = number >= (SIZE - 1) * SIZE
        shots = (board.shots | (here & fires)).roll(-SIZE) & ~lowest
        bombs = board.bombs.roll(SIZE) & (number >= SIZE)
        over = some((bombs | board.aliens) & here)

        moves = board.move_timer == 0
        count = board.aliens.to(torch.float32).sum().to(torch.int64)
        column = torch.where(board.heading < 0, 0, SIZE - 1).to(torch.int32)
        turns = moves & some(board.aliens & (number % SIZE == column))
        over = over | (turns & some(board.aliens & lowest))
        # Where they are at no edge, the end of one row does not become the beginning of the next.
        sideways = torch.where(board.heading < 0, board.aliens.roll(-1), board.aliens.roll(1))
        aliens = torch.where(turns, board.aliens.roll(SIZE), torch.where(moves, sideways, board.aliens))
        over = over | (moves & some(aliens & here))

        bombs = bombs | (_shooter(aliens, cannon) & (board.bomb_timer == 0))
        hit = aliens & shots
        aliens, earned = aliens & ~hit, hit.to(torch.float32).sum()
        cleared = ~some(aliens)
        faster = cleared & (board.move_interval > LAST_MOVE) if self.difficulty_ramping else cleared & False
        after = Board(
            cannon=cannon,
            aliens=aliens | (_wave(cannon) & cleared),
            heading=torch.where(turns, -board.heading, board.heading),
            shots=shots & ~hit,
            bombs=bombs,
            shot_timer=counted_down(torch.where(fires, COOL_DOWN, board.shot_timer)),
            move_timer=torch.where(moves, torch.minimum(count, board.move_interval), board.move_timer) - 1,
            move_interval=board.move_interval - faster.to(torch.int64),
            bomb_timer=torch.where(board.bomb_timer == 0, SHOT_INTERVAL, board.bomb_timer) - 1,
        )
        return after, earned, over

    def channels(self, board: Board) -> list[Tensor]:
        """Return the cannon, aliens, the same by where they go, shots and bombs."""
        bottom, left = torch.full_like(board.cannon, SIZE - 1), board.heading < 0
        return [
            cell(bottom, board.cannon),
            board.aliens,
            board.aliens & left,
            board.aliens & ~left,
            board.shots,
            board.bombs,
        ]


def _wave(like: Tensor) -> Tensor:
    """Return four rows of six aliens, `[100]` boolean."""
    row, column = places(like) // SIZE, places(like) % SIZE
    return (row < 4) & (column >= 2) & (column < 8)


def _shooter(aliens: Tensor, cannon: Tensor) -> Tensor:
    """Return where the alien is that shoots: the lowest one of the nearest column, the left one of two as near."""
    row, column = places(cannon) // SIZE, places(cannon) % SIZE
    far = (column - cannon.to(torch.int32)).abs()
    order = ((far * SIZE + column) * SIZE + (SIZE - 1 - row)).to(torch.float32)
    order = torch.where(aliens, order, torch.inf)
    return aliens & (order == order.amin())
