"""Taxi-v4: fetch a passenger in a small town and bring them where they want to go.

Dietterich 2000, "Hierarchical reinforcement learning with the MAXQ value function decomposition",
sections 3.1 and 7.1. Town, rewards, rain and fickle passengers are those of Gymnasium's `Taxi-v4`;
its predecessor `Taxi-v3` differs in rain and fickleness only.
"""

from __future__ import annotations

import math

import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core import checks, random, tree
from funcrl.envs import tabular
from funcrl.envs.drawing import Frame
from funcrl.envs.scenes import town
from funcrl.envs.tabular import Outcomes, Place

_OBSERVATIONS = 500
_LANDMARKS = (0, 4, 20, 23)
_ABOARD = 4
_PICK_UP, _DROP_OFF = 4, 5


def _parts(position: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return row and column of the taxi, whereabouts of the passenger, and the destination."""
    return position // 100 % 5, position // 20 % 5, position // 4 % 5, position % 4


def _is_free(row: Tensor, column: Tensor, heading: Tensor) -> Tensor:
    """Whether the taxi can go from a cell to the next one; never for an action that is no move."""

    def wall_east_of(column: Tensor) -> Tensor:
        return ((row < 2) & (column == 1)) | ((row > 2) & ((column == 0) | (column == 2)))

    south = (heading == 0) & (row < 4)
    north = (heading == 1) & (row > 0)
    east = (heading == 2) & (column < 4) & ~wall_east_of(column)
    west = (heading == 3) & (column > 0) & ~wall_east_of(column - 1)
    return south | north | east | west


def _landmark_here(row: Tensor, column: Tensor) -> Tensor:
    """Which of the four landmarks the taxi stands at, `[4]` boolean."""
    return torch.tensor(_LANDMARKS, dtype=torch.int64, device=row.device) == row * 5 + column


@tree.struct
class Taxi:
    """The environment; its numbers may be tensors, to `vmap` the dynamics over them.

    The town has 5 rows of 5 cells, some with a wall between them, and four landmarks: 0 red (upper
    left), 1 green (upper right), 2 yellow (lower left), 3 blue (bottom, column 3). The observation is
    ((5 · row + column) · 5 + passenger) · 4 + destination; the passenger is at a landmark, or 4: in
    the taxi. Actions: 0 south, 1 north, 2 east, 3 west, 4 pick up, 5 drop off.

    With a fickle passenger the position, unlike the observation, also tells whether the passenger will still
    want to go elsewhere: position = observation + 500 if so.
    """

    render_fps = 4
    """pictures per second of a film"""

    step_reward: float = -1.0
    """for any action but the following, also for one that a wall makes vain"""
    delivery_reward: float = 20.0
    """for dropping the passenger off at the destination, which ends the episode"""
    illegal_reward: float = -10.0
    """for picking up or dropping off where that is not possible"""
    rainy_probability: float = 0.8
    """in rain, of moving as intended; the rest is shared by the two sides"""
    fickle_probability: float = 0.3
    """that a fickle passenger of this episode will want to go elsewhere"""
    is_rainy: bool = tree.static(default=False)
    """whether a move may go to the left or right; not where the way ahead is blocked"""
    fickle_passenger: bool = tree.static(default=False)
    """whether the passenger may want to go elsewhere, once, when the taxi first moves with him"""
    max_episode_steps: int | None = tree.static(default=200)
    """time limit; None for none"""

    def __post_init__(self) -> None:
        for name in ("step_reward", "delivery_reward", "illegal_reward"):
            checks.number("Taxi", name, getattr(self, name), -math.inf, math.inf)
        checks.settings(
            self,
            "Taxi",
            unit=("rainy_probability", "fickle_probability"),
            flags=("is_rainy", "fickle_passenger"),
        )
        checks.time_limit("Taxi", self.max_episode_steps)

    @property
    def num_states(self) -> int:
        """500, or twice as many with a fickle passenger."""
        return _OBSERVATIONS * (2 if self.fickle_passenger else 1)

    @property
    def observation_space(self) -> spaces.Discrete:
        """Taxi, passenger and destination."""
        return tabular.discrete(_OBSERVATIONS)

    @property
    def action_space(self) -> spaces.Discrete:
        """0 south, 1 north, 2 east, 3 west, 4 pick up, 5 drop off."""
        return tabular.discrete(6)

    def initial_distribution(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the probability of each position at the beginning, `[500]` or `[1000]`."""
        _, _, passenger, destination = _parts(torch.arange(_OBSERVATIONS, device="cpu"))
        waits = (passenger != _ABOARD) & (passenger != destination)
        steadfast = waits.to(dtype) / 300
        if not self.fickle_passenger:
            return steadfast
        fickle = tabular.number(self.fickle_probability, dtype, steadfast.device)
        steadfast = steadfast.to(fickle.device)
        return torch.cat([steadfast * (1 - fickle), steadfast * fickle])

    def initial(self, key: Tensor) -> Place:
        """Return the taxi in any cell and the passenger at any landmark but the destination."""
        k_observation, k_fickle = random.split(key, 2)
        number = random.randint(k_observation, (), 0, 300)
        cell, passenger = number // 12, number // 3 % 4
        destination = (passenger + 1 + number % 3) % 4
        position = (cell * 5 + passenger) * 4 + destination
        if self.fickle_passenger:
            is_fickle = random.bernoulli(k_fickle, self.fickle_probability, ())
            position = position + torch.where(is_fickle, _OBSERVATIONS, 0)
        return tabular.begin(position)

    def outcomes(self, position: Tensor, action: Tensor, dtype: torch.dtype = torch.float32) -> Outcomes:
        """Return what may follow: 3 directions in rain, times 3 destinations of a fickle passenger.

        Args:
            position: `[]` int64.
            action: `[]` integer.
            dtype: Of probabilities and rewards.
        """
        row, column, passenger, destination = _parts(position)
        heading, probability = self._headings(action, dtype)
        moves = _is_free(row, column, action) & _is_free(row, column, heading)
        down = (heading == 0).to(torch.int64) - (heading == 1).to(torch.int64)
        right = (heading == 2).to(torch.int64) - (heading == 3).to(torch.int64)
        cell = torch.where(moves, (row + down) * 5 + column + right, row * 5 + column)

        here = _landmark_here(row, column)
        landmarks = torch.arange(4, device=position.device)
        picks_up = (action == _PICK_UP) & (here & (landmarks == passenger)).any()
        drops_off = (action == _DROP_OFF) & (passenger == _ABOARD) & here.any()
        delivers = drops_off & (here & (landmarks == destination)).any()
        in_vain = (action >= _PICK_UP) & ~picks_up & ~drops_off
        passenger_then = torch.where(drops_off, torch.where(here, landmarks, 0).sum(), passenger)
        passenger_then = torch.where(picks_up, _ABOARD, passenger_then)
        step, delivery, illegal = (
            tabular.number(x, dtype, position.device)
            for x in (self.step_reward, self.delivery_reward, self.illegal_reward)
        )
        reward = torch.where(delivers, delivery, torch.where(in_vain, illegal, step))

        following = (cell * 5 + passenger_then) * 4 + destination
        if self.fickle_passenger:
            is_asked = moves & (passenger == _ABOARD)
            following = self._change_of_mind(position, following, is_asked)
            probability = (probability / 3)[:, None].expand(-1, 3).reshape(-1)
        return Outcomes(
            probability, following, reward.expand(following.shape), delivers.expand(following.shape)
        )

    def _headings(self, action: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return directions and their probabilities, `[1]`, or `[3]` with the intended one first."""
        if not self.is_rainy:
            return action.reshape(1), torch.ones(1, dtype=dtype, device=action.device)
        order = torch.arange(3, device=action.device)
        side = order - 1 + torch.where(action < 2, 2, 0)
        ahead, aside = (
            tabular.number(x, dtype, action.device)
            for x in (self.rainy_probability, (1 - self.rainy_probability) / 2)
        )
        return torch.where(order == 0, action, side), torch.where(order == 0, ahead, aside)

    def _change_of_mind(self, position: Tensor, following: Tensor, is_asked: Tensor) -> Tensor:
        """Return the positions for each new destination, `[3 M]` of M directions."""
        is_fickle = position >= _OBSERVATIONS
        others = (position + torch.arange(1, 4, device=position.device)) % 4
        changed = (following // 4 * 4)[:, None] + others
        unchanged = following + torch.where(is_fickle, _OBSERVATIONS, 0)
        return torch.where((is_asked & is_fickle)[:, None], changed, unchanged[:, None]).reshape(-1)

    def action_mask(self, state: Place) -> Tensor:
        """Return which actions change anything, `[6]` boolean."""
        row, column, passenger, _ = _parts(state.position)
        here = _landmark_here(row, column)
        landmarks = torch.arange(4, device=here.device)
        picks_up = (here & (landmarks == passenger)).any()
        drops_off = (passenger == _ABOARD) & here.any()
        return torch.cat([_is_free(row, column, landmarks), picks_up[None], drops_off[None]])

    def transition(self, state: Place, action: Tensor, key: Tensor) -> Place:
        """Return the place that follows, one of `outcomes`."""
        return tabular.draw(key, self.outcomes(state.position, action))

    def observation(self, state: Place, key: Tensor) -> Tensor:
        """Return taxi, passenger and destination, `[]` int64; not whether the passenger is fickle."""
        return state.position % _OBSERVATIONS

    def reward(self, state: Place, action: Tensor, next_state: Place, key: Tensor) -> Tensor:
        """Return what the step paid, `[]` float32."""
        return next_state.reward

    def terminal(self, state: Place, key: Tensor) -> Tensor:
        """Return whether the passenger has been delivered, `[]` boolean."""
        return state.terminated

    def render(self, state: Place) -> Frame:
        """Return a picture of one state, `[H, W, 3]`: the town, the taxi, who waits or rides, and whither."""
        row, column, passenger, destination = map(int, _parts(state.position))
        is_fickle = int(state.position) >= _OBSERVATIONS
        return town.picture(row, column, passenger, destination, is_fickle)
