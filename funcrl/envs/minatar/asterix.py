"""Asterix-MinAtar: treasures to fetch and enemies to avoid, which come from both sides."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from funcrl.core import tree
from funcrl.envs.minatar.game import (
    DOWN,
    LEFT,
    RIGHT,
    SIZE,
    UP,
    Game,
    cell,
    cells,
    drawn,
    moved,
    number,
)

NUM_ROWS = 8
FIRST_SPAWN, FIRST_MOVE = 10, 5
RAMP = 100


@tree.struct
class Board:
    """Where everything is, each `[]` int64 if not said otherwise."""

    row: Tensor
    """of the player"""
    column: Tensor
    there: Tensor
    """`[8]` boolean: something is in this row, from the second on"""
    place: Tensor
    """`[8]` its column"""
    to_right: Tensor
    """`[8]` boolean"""
    gold: Tensor
    """`[8]` boolean: a treasure, no enemy"""
    spawn_timer: Tensor
    spawn_interval: Tensor
    """steps from one thing that comes to the next"""
    move_timer: Tensor
    move_interval: Tensor
    """steps from one move of things to the next"""
    ramp_timer: Tensor
    ramps: Tensor
    """how often it has become harder"""


@tree.struct
class Asterix(Game):
    """The game; see `Game` for what all share.

    A treasure pays 1, an enemy ends the game. About one of three things that come is a treasure; each comes in a row
    that nothing is in. It becomes harder every hundred steps: things come more often, and every other time they move faster.

    Channels: player, enemy, trail (where things were), gold. Minimal actions: all but fire.
    """

    CHANNELS: ClassVar[tuple[str, ...]] = ("player", "enemy", "trail", "gold")
    MINIMAL: ClassVar[tuple[int, ...]] = tuple(range(5))
    NUM_CHOICES: ClassVar[int] = 3

    def begin(self, choices: Tensor) -> Board:
        """Return a player in the middle, and nothing else."""
        nowhere = torch.zeros(NUM_ROWS, dtype=torch.bool, device=choices.device)
        return Board(
            row=number(5, choices),
            column=number(5, choices),
            there=nowhere,
            place=nowhere.to(torch.int64),
            to_right=nowhere,
            gold=nowhere,
            spawn_timer=number(FIRST_SPAWN, choices),
            spawn_interval=number(FIRST_SPAWN, choices),
            move_timer=number(FIRST_MOVE, choices),
            move_interval=number(FIRST_MOVE, choices),
            ramp_timer=number(RAMP, choices),
            ramps=number(0, choices),
        )

    def play(self, board: Board, action: Tensor, choices: Tensor) -> tuple[Board, Tensor, Tensor]:
        """Let something come, move the player, then all things."""
        due = board.spawn_timer == 0
        board = _spawned(board, due, choices)
        row = moved(board.row, action, UP, DOWN, 1, NUM_ROWS)
        column = moved(board.column, action, LEFT, RIGHT)
        in_row = torch.arange(1, 1 + NUM_ROWS, device=row.device) == row

        met = board.there & in_row & (board.place == column)
        earned, over = (met & board.gold).sum(), (met & ~board.gold).any()
        there = board.there & ~(met & board.gold)
        moves = board.move_timer == 0
        place = torch.where(moves, board.place + torch.where(board.to_right, 1, -1), board.place)
        there = there & (place >= 0) & (place < SIZE)
        met = moves & there & in_row & (place == column)
        earned, over = earned + (met & board.gold).sum(), over | (met & ~board.gold).any()
        after = tree.replace(
            board,
            row=row,
            column=column,
            there=there & ~(met & board.gold),
            place=place,
            spawn_timer=torch.where(due, board.spawn_interval, board.spawn_timer) - 1,
            move_timer=torch.where(moves, board.move_interval, board.move_timer) - 1,
        )
        return (_harder(after) if self.difficulty_ramping else after), earned, over

    def channels(self, board: Board) -> list[Tensor]:
        """Return the player, enemies, where things were, and gold."""
        rows = torch.arange(1, 1 + NUM_ROWS, device=board.row.device)
        behind = board.place - torch.where(board.to_right, 1, -1)
        return [
            cell(board.row, board.column),
            cells(rows, board.place, board.there & ~board.gold),
            cells(rows, behind, board.there),
            cells(rows, board.place, board.there & board.gold),
        ]


def _spawned(board: Board, due: Tensor, choices: Tensor) -> Board:
    """Return the board with something new in a row that nothing is in, where it is due and there is one."""
    to_right, gold, free = choices[0] < 0.5, choices[1] < 1 / 3, ~board.there
    wanted = drawn(choices[2], 0, free.sum())
    new = due & free & (free.cumsum(0) == wanted + 1)
    return tree.replace(
        board,
        there=board.there | new,
        place=torch.where(new, torch.where(to_right, 0, SIZE - 1), board.place),
        to_right=torch.where(new, to_right, board.to_right),
        gold=torch.where(new, gold, board.gold),
    )


def _harder(board: Board) -> Board:
    """Return the board after the hundred steps' clock has gone on, and where it has struck a harder one."""
    can = (board.spawn_interval > 1) | (board.move_interval > 1)
    strikes = can & (board.ramp_timer < 0)
    faster = strikes & (board.ramps % 2 == 1) & (board.move_interval > 1)
    return tree.replace(
        board,
        move_interval=board.move_interval - faster.to(torch.int64),
        spawn_interval=board.spawn_interval - (strikes & (board.spawn_interval > 1)).to(torch.int64),
        ramps=board.ramps + strikes.to(torch.int64),
        ramp_timer=torch.where(strikes, RAMP, board.ramp_timer - can.to(torch.int64)),
    )
