"""MountainCarContinuous-v0: reach the top of the hill with as little fuel as possible.

The valley of `MountainCar` with a motor that can push with any strength up to a limit (Moore 1990,
"Efficient memory-based learning for robot control", for the valley). The constants, bounds and
reward are those of Gymnasium's `MountainCarContinuous-v0`.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core import checks, random, tree
from funcrl.envs import beginnings
from funcrl.envs.drawing import Frame
from funcrl.envs.mountain_car import bounds, check_valley, picture, roll


@functools.cache
def _actions(max_action: float) -> spaces.Box:
    return spaces.Box(-max_action, max_action, (1,), dtype=np.float32)


@tree.struct
class MountainCarContinuous:
    """The environment; its numbers may be tensors, to `vmap` the dynamics over them.

    State: `[2]` float32, the position of the car and its velocity in positions per step. The
    observation is the state. Action: `[1]` float32, how hard to push and whither. Reward: 100 for
    the step that reaches the goal, less 0.1 a² for every step.
    """

    render_fps = 30
    """pictures per second of a film"""
    reset_options = ("low", "high")
    """what Gymnasium's `reset(options=...)` may say: arguments of `starting`"""

    power: float = 0.0015
    """acceleration by an action of 1, positions per step²"""
    max_action: float = 1.0
    """what moves the car is the action clipped to ± this; what is paid for is the action itself"""
    goal_reward: float = 100.0
    """reward of reaching the goal"""
    action_cost: float = 0.1
    """weight of the action's square in the cost of a step"""
    gravity: float = 0.0025
    """acceleration down a slope of 1, positions per step²"""
    max_speed: float = 0.07
    """positions per step; the velocity is clipped to ± this"""
    min_position: float = -1.2
    """left end, where a wall stops the car"""
    max_position: float = 0.6
    """right end; the position is clipped there"""
    goal_position: float = 0.45
    """an episode terminates from here on to the right"""
    goal_velocity: float = 0.0
    """positions per step; slower than this, the goal does not count"""
    initial_low: float = -0.6
    """the position starts uniformly between this"""
    initial_high: float = -0.4
    """and this, the velocity at 0"""
    max_episode_steps: int | None = tree.static(default=999)
    """time limit; None for none"""

    def __post_init__(self) -> None:
        function = "MountainCarContinuous"
        checks.settings(self, function, not_negative=("power", "action_cost"), positive=("max_action",))
        checks.number(function, "goal_reward", self.goal_reward, -math.inf, math.inf)
        check_valley(self, function)

    @property
    def observation_space(self) -> spaces.Box:
        """Position and velocity between their bounds."""
        return bounds(float(self.min_position), float(self.max_position), float(self.max_speed))

    @property
    def action_space(self) -> spaces.Box:
        """How hard to push, up to `max_action` either way."""
        return _actions(float(self.max_action))

    def initial(self, key: Tensor) -> Tensor:
        """Return the first state of an episode, `[2]`: at rest."""
        position = random.uniform(key, (), self.initial_low, self.initial_high)
        return torch.stack([position, torch.zeros_like(position)], dim=-1)

    def starting(self, low: float | None = None, high: float | None = None) -> MountainCarContinuous:
        """Return the environment in which the position starts uniformly between two numbers."""
        low = self.initial_low if low is None else low
        high = self.initial_high if high is None else high
        beginnings.ordered("MountainCarContinuous.reset", low, high)
        return tree.replace(self, initial_low=low, initial_high=high)

    def transition(self, state: Tensor, action: Tensor, key: Tensor) -> Tensor:
        """Return the state that follows, `[2]`; deterministic, the key is not used."""
        strength = torch.clamp(action[..., 0].to(state.dtype), -self.max_action, self.max_action)
        return roll(
            state,
            strength * self.power,
            gravity=self.gravity,
            max_speed=self.max_speed,
            min_position=self.min_position,
            max_position=self.max_position,
        )

    def observation(self, state: Tensor, key: Tensor) -> Tensor:
        """Return what the agent sees of a state, `[2]`: all of it."""
        return state

    def reward(self, state: Tensor, action: Tensor, next_state: Tensor, key: Tensor) -> Tensor:
        """Return what the goal pays less what the action costs, `[]`; the action is not clipped."""
        arrived = torch.where(self.terminal(next_state, key), self.goal_reward, 0.0)
        return arrived - self.action_cost * action[..., 0] ** 2

    def terminal(self, state: Tensor, key: Tensor) -> Tensor:
        """Return whether the car is at the goal and fast enough, `[]` boolean."""
        position, velocity = state.unbind(-1)
        return (position >= self.goal_position) & (velocity >= self.goal_velocity)

    def render(self, state: Tensor) -> Frame:
        """Return a picture of one state, `[H, W, 3]`: the car in the valley and the flag at the goal."""
        ends = (float(self.min_position), float(self.max_position))
        return picture(float(state[0]), *ends, float(self.goal_position))
