"""Seaquest-MinAtar: a submarine that saves divers, shoots, and must not run out of air."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from funcrl.core import tree
from funcrl.envs.minatar.game import (
    DOWN,
    FIRE,
    LEFT,
    RIGHT,
    SIZE,
    UP,
    Game,
    cell,
    cells,
    counted_down,
    drawn,
    moved,
    number,
    places,
    some,
)

AIR = 200
FULL = 6
"""divers"""
FIRST_SPAWN, DIVER_INTERVAL = 20, 30
FIRST_MOVE, LAST_MOVE, DIVER_MOVE = 5, 2, 5
COOL_DOWN, SHOT_INTERVAL = 5, 10

# As many as there can be at once: an enemy needs 30 steps across the screen at its fastest, and comes in each
# step at the most; a diver needs 60 and comes every 30; a shot is gone after 10 and the next one comes after 5.
MOST_ENEMIES, MOST_DIVERS, MOST_SHOTS = 32, 3, 2
_SUBMARINES_FIRST = 1 << 40


@tree.struct
class Things:
    """Several things that move, each `[N]`, int64 if not said otherwise."""

    there: Tensor
    """boolean"""
    row: Tensor
    column: Tensor
    to_right: Tensor
    """boolean"""
    timer: Tensor
    """steps until it moves"""
    born: Tensor
    """larger for what came later"""


@tree.struct
class Board:
    """Where everything is, each `[]` int64 if not said otherwise."""

    row: Tensor
    """of the player"""
    column: Tensor
    to_right: Tensor
    """`[]` boolean: where it looks"""
    shots: Things
    """`[2]`"""
    divers: Things
    """`[3]`"""
    enemies: Things
    """`[32]`"""
    is_submarine: Tensor
    """`[32]` boolean of the enemies, which else are fish"""
    bomb_timer: Tensor
    """`[32]` steps until a submarine shoots"""
    bombs: Tensor
    """`[2, 100]` boolean: what submarines have shot, to the left and to the right"""
    air: Tensor
    saved: Tensor
    """divers on board; below 0 after a full load was brought up, as in the package"""
    at_surface: Tensor
    """`[]` boolean"""
    shot_timer: Tensor
    spawn_timer: Tensor
    spawn_interval: Tensor
    """steps from one enemy to the next"""
    diver_timer: Tensor
    move_interval: Tensor
    """steps from one move of an enemy to the next, but for one"""
    ramps: Tensor
    """how often it has become harder"""
    step: Tensor


@tree.struct
class Seaquest(Game):
    """The game; see `Game` for what all share.

    An enemy that is shot pays 1. Divers are picked up by touch; coming up with six of them pays one for each cell of
    the bar of air, coming up with fewer costs one of them, and with none the game. Air lasts 200 steps under water. The game is
    over when an enemy or its shot meets the player, and when there is no air. It becomes harder whenever
    the player comes up: enemies come more often, and every other time they move faster.

    Channels: the player's front and back, its shots, trail (where things were), enemies' shots, fish, submarines, bars of air and
    of divers, divers. All six actions do something.
    """

    CHANNELS: ClassVar[tuple[str, ...]] = (
        "front",
        "back",
        "shot",
        "trail",
        "enemy's shot",
        "fish",
        "submarine",
        "air",
        "divers on board",
        "diver",
    )
    NUM_CHOICES: ClassVar[int] = 5

    def begin(self, choices: Tensor) -> Board:
        """Return a player at the surface, with all its air and nobody else."""
        nowhere = torch.zeros(MOST_ENEMIES, dtype=torch.bool, device=choices.device)
        return Board(
            row=number(0, choices),
            column=number(5, choices),
            to_right=number(False, choices),
            shots=_none(MOST_SHOTS, choices),
            divers=_none(MOST_DIVERS, choices),
            enemies=_none(MOST_ENEMIES, choices),
            is_submarine=nowhere,
            bomb_timer=nowhere.to(torch.int64),
            bombs=torch.zeros(2, SIZE * SIZE, dtype=torch.bool, device=choices.device),
            air=number(AIR, choices),
            saved=number(0, choices),
            at_surface=number(True, choices),
            shot_timer=number(0, choices),
            spawn_timer=number(FIRST_SPAWN, choices),
            spawn_interval=number(FIRST_SPAWN, choices),
            diver_timer=number(DIVER_INTERVAL, choices),
            move_interval=number(FIRST_MOVE, choices),
            ramps=number(0, choices),
            step=number(0, choices),
        )

    def play(self, board: Board, action: Tensor, choices: Tensor) -> tuple[Board, Tensor, Tensor]:
        """Let others come; act; move shots, divers, enemies and their shots; then see what air is left."""
        board = _spawned(board, choices)
        board = _acted(board, action)
        board, first = _shot(board)
        board = _picked_up(board)
        board, second, met = _attacked(board)
        earned, over = first + second, met | (board.air <= 0)
        under_water = board.row > 0
        arrives = ~under_water & ~board.at_surface
        over = over | (arrives & (board.saved == 0))
        surfaces = arrives & (board.saved != 0)
        full = surfaces & (board.saved == FULL)
        earned = earned + torch.where(full, board.air * 10 // AIR, 0)
        board = tree.replace(
            board,
            air=torch.where(surfaces, AIR, board.air - under_water.to(torch.int64)),
            saved=torch.where(full, 0, board.saved) - surfaces.to(torch.int64),
            at_surface=~under_water & (board.at_surface | surfaces),
            spawn_timer=counted_down(board.spawn_timer),
            diver_timer=counted_down(board.diver_timer),
            shot_timer=counted_down(board.shot_timer),
            step=board.step + 1,
        )
        return (_harder(board, surfaces) if self.difficulty_ramping else board), earned, over

    def channels(self, board: Board) -> list[Tensor]:
        """Return what is where, in the order of `CHANNELS`."""
        along = places(board.row) - (SIZE - 1) * SIZE  # the lowest row, from 0
        air = (along >= 0) & (along < (board.air.clamp(min=0) * 10 // AIR).to(torch.int32))
        first = (SIZE - 1 - board.saved).to(torch.int32)
        saved = (along >= 0) & (along >= first) & (along < SIZE - 1)
        enemies, divers = board.enemies, board.divers
        trails = [cells(x.row, x.column - _forward(x), x.there) for x in (enemies, divers)]
        return [
            cell(board.row, board.column),
            cell(board.row, board.column + torch.where(board.to_right, -1, 1)),
            _where(board.shots),
            trails[0] | trails[1],
            board.bombs[0] | board.bombs[1],
            cells(enemies.row, enemies.column, enemies.there & ~board.is_submarine),
            cells(enemies.row, enemies.column, enemies.there & board.is_submarine),
            air,
            saved,
            _where(divers),
        ]


def _none(count: int, like: Tensor) -> Things:
    nothing = torch.zeros(count, dtype=torch.int64, device=like.device)
    flags = torch.zeros_like(nothing, dtype=torch.bool)
    return Things(flags, nothing, nothing, flags, nothing, nothing)


def _forward(things: Things) -> Tensor:
    """Return by how much a move changes the column, `[N]`."""
    return torch.where(things.to_right, 1, -1)


def _where(things: Things) -> Tensor:
    return cells(things.row, things.column, things.there)


def _inside(column: Tensor) -> Tensor:
    return (column >= 0) & (column < SIZE)


def _free(things: Things, due: Tensor) -> Tensor:
    """Return the first place that nothing has taken, where one is due, `[N]` boolean."""
    free = ~things.there
    return due & free & (free.cumsum(0) == 1)


def _with_new(
    things: Things, new: Tensor, row: Tensor, column: Tensor, to_right: Tensor, timer: Tensor, born: Tensor
) -> Things:
    """Return things with a new one in its place."""
    fields = (things.row, row), (things.column, column), (things.timer, timer), (things.born, born)
    rows, columns, timers, borns = (torch.where(new, x, before) for before, x in fields)
    turned = torch.where(new, to_right, things.to_right)
    return Things(things.there | new, rows, columns, turned, timers, borns)


def _spawned(board: Board, choices: Tensor) -> Board:
    """Return the board with the enemy and the diver that are due; no enemy comes towards another one of its row."""
    enemy_due, diver_due = board.spawn_timer == 0, board.diver_timer == 0
    to_right, is_submarine, row = choices[0] < 0.5, choices[1] < 1 / 3, drawn(choices[2], 1, 9)
    enemies = board.enemies
    towards = enemies.there & (enemies.row == row) & (enemies.to_right != to_right)
    new = _free(enemies, enemy_due & ~towards.any())
    diver_to_right, diver_row = choices[3] < 0.5, drawn(choices[4], 1, 9)
    new_diver = _free(board.divers, diver_due)
    side = torch.where(to_right, 0, SIZE - 1)
    diver_side = torch.where(diver_to_right, 0, SIZE - 1)
    wait = torch.full_like(row, DIVER_MOVE)
    return tree.replace(
        board,
        enemies=_with_new(enemies, new, row, side, to_right, board.move_interval, board.step),
        is_submarine=torch.where(new, is_submarine, board.is_submarine),
        bomb_timer=torch.where(new, SHOT_INTERVAL, board.bomb_timer),
        spawn_timer=torch.where(enemy_due, board.spawn_interval, board.spawn_timer),
        divers=_with_new(board.divers, new_diver, diver_row, diver_side, diver_to_right, wait, board.step),
        diver_timer=torch.where(diver_due, DIVER_INTERVAL, board.diver_timer),
    )


def _acted(board: Board, action: Tensor) -> Board:
    """Return the board after the player's move or shot."""
    fires = (action == FIRE) & (board.shot_timer == 0)
    new = _free(board.shots, fires)
    zero = torch.zeros_like(board.row)
    shots = _with_new(board.shots, new, board.row, board.column, board.to_right, zero, board.step)
    return tree.replace(
        board,
        row=moved(board.row, action, UP, DOWN, 0, SIZE - 2),
        column=moved(board.column, action, LEFT, RIGHT),
        to_right=torch.where(action == LEFT, False, torch.where(action == RIGHT, True, board.to_right)),
        shots=shots,
        shot_timer=torch.where(fires, COOL_DOWN, board.shot_timer),
    )


def _hits(shots: Things, enemies: Things, could_be: Tensor) -> Tensor:
    """Return which shot is where which enemy is, `[2, N]` boolean.

    Args:
        shots: Of the player.
        enemies: All.
        could_be: `[N]` which of them can be hit.
    """
    row = shots.row[:, None] == enemies.row[None, :]
    column = shots.column[:, None] == enemies.column[None, :]
    return row & column & shots.there[:, None] & (enemies.there & could_be)[None, :]


def _least(hits: Tensor, order: Tensor) -> Tensor:
    """Return for each shot that one of the enemies it could hit which is first by an order, `[2, N]` boolean."""
    place = torch.where(hits, order, torch.iinfo(torch.int64).max)
    return hits & (place == place.amin(dim=1, keepdim=True))


def _shot(board: Board) -> tuple[Board, Tensor]:
    """Return the board after the player's shots have flown on, and how many have hit: fish before submarines, old before young."""
    shots, enemies = board.shots, board.enemies
    column = shots.column + _forward(shots)
    shots = tree.replace(shots, column=column, there=shots.there & _inside(column))
    order = enemies.born + torch.where(board.is_submarine, _SUBMARINES_FIRST, 0)
    hits = _least(_hits(shots, enemies, enemies.there), order)
    board = tree.replace(
        board,
        shots=tree.replace(shots, there=shots.there & ~hits.any(1)),
        enemies=tree.replace(enemies, there=enemies.there & ~hits.any(0)),
    )
    return board, hits.sum()


def _picked_up(board: Board) -> Board:
    """Return the board after divers have moved, young before old, and those whom the player meets are on board."""
    divers = board.divers
    in_row = divers.there & (divers.row == board.row)
    before = in_row & (divers.column == board.column)
    due = divers.there & (divers.timer == 0)
    column = torch.where(due, divers.column + _forward(divers), divers.column)
    wants = before | (due & in_row & (column == board.column))
    younger = divers.born[None, :] > divers.born[:, None]
    picked = wants & (board.saved + (younger & wants[None, :]).sum(1) < FULL)
    timer = torch.where(due, DIVER_MOVE, divers.timer - 1)
    there = divers.there & ~picked & _inside(column)
    return tree.replace(
        board,
        divers=tree.replace(divers, there=there, column=column, timer=timer),
        saved=board.saved + picked.sum(),
    )


def _attacked(board: Board) -> tuple[Board, Tensor, Tensor]:
    """Return the board after enemies have moved and shot, how many have moved into a shot, and whether any has met the player.

    Submarines move before fish, young ones before old ones; the first one that moves to where a shot is meets it.
    """
    enemies, here = board.enemies, cell(board.row, board.column)
    in_row = enemies.there & (enemies.row == board.row)
    met = in_row & (enemies.column == board.column)
    due = enemies.there & (enemies.timer == 0)
    column = torch.where(due, enemies.column + _forward(enemies), enemies.column)
    met_after = due & in_row & (column == board.column)
    timer = torch.where(due, board.move_interval, enemies.timer - 1)
    after = tree.replace(enemies, there=enemies.there & _inside(column), column=column, timer=timer)
    order = -enemies.born - torch.where(board.is_submarine, _SUBMARINES_FIRST, 0)
    hits = _least(_hits(board.shots, after, due & ~met_after), order)

    # One that was hit, or has gone, shoots in that step all the same.
    armed = enemies.there & board.is_submarine
    shoots = armed & (board.bomb_timer == 0)
    fired = [cells(enemies.row, column, shoots & (enemies.to_right == right)) for right in (False, True)]
    left, right = board.bombs[0] | fired[0], board.bombs[1] | fired[1]
    over = some(met | met_after) | some((left | right) & here)
    along = places(column) % SIZE
    left, right = left.roll(-1) & (along < SIZE - 1), right.roll(1) & (along > 0)
    board = tree.replace(
        board,
        shots=tree.replace(board.shots, there=board.shots.there & ~hits.any(1)),
        enemies=tree.replace(after, there=after.there & ~hits.any(0)),
        bomb_timer=torch.where(shoots, SHOT_INTERVAL, board.bomb_timer - armed.to(torch.int64)),
        bombs=torch.stack([left, right]),
    )
    return board, hits.sum(), over | some((left | right) & here)


def _harder(board: Board, surfaces: Tensor) -> Board:
    """Return the board that has become harder where the player has come up."""
    harder = surfaces & ((board.spawn_interval > 1) | (board.move_interval > LAST_MOVE))
    faster = harder & (board.move_interval > LAST_MOVE) & (board.ramps % 2 == 1)
    more = harder & (board.spawn_interval > 1)
    return tree.replace(
        board,
        move_interval=board.move_interval - faster.to(torch.int64),
        spawn_interval=board.spawn_interval - more.to(torch.int64),
        ramps=board.ramps + harder.to(torch.int64),
    )
