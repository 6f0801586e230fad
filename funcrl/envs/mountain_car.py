"""MountainCar-v0: drive a car too weak for the hill to its top by swinging up in the valley first.

Moore 1990, "Efficient memory-based learning for robot control"; Sutton & Barto 2018, "Reinforcement
learning: an introduction", example 10.1. The constants, bounds and reward are those of Gymnasium's
`MountainCar-v0`, in float32 where Gymnasium keeps its state in float64. A step is the unit of time;
the height of the ground at position x is sin 3x, up to a scale that only pictures need.
"""

from __future__ import annotations

import functools
import math
import numbers
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core import checks, random, tree
from funcrl.envs import beginnings
from funcrl.envs.drawing import GROUND, INK, RED, YELLOW, Canvas, Frame

_ACTIONS = spaces.Discrete(3)


@functools.cache
def bounds(min_position: float, max_position: float, max_speed: float) -> spaces.Box:
    """Return the space of `[position, velocity]`."""
    low = np.array([min_position, -max_speed], dtype=np.float32)
    high = np.array([max_position, max_speed], dtype=np.float32)
    return spaces.Box(low, high, dtype=np.float32)


def check_valley(env: Any, function: str) -> None:
    """Check the fields that both mountain cars have.

    Raises:
        TypeError: When a field is of the wrong kind.
        ValueError: When it is out of range.
    """
    checks.settings(env, function, not_negative=("gravity",), positive=("max_speed",))
    for name in ("goal_position", "goal_velocity"):
        checks.number(function, name, getattr(env, name), -math.inf, math.inf)
    for low, high in (("min_position", "max_position"), ("initial_low", "initial_high")):
        checks.number(function, low, getattr(env, low), -math.inf, math.inf)
        above = getattr(env, low) if isinstance(getattr(env, low), numbers.Real) else -math.inf
        checks.number(function, high, getattr(env, high), above, math.inf)
    if env.max_episode_steps is not None:
        checks.integer(function, "max_episode_steps", env.max_episode_steps, 1)


def roll(
    state: Tensor,
    push: Tensor,
    *,
    gravity: float,
    max_speed: float,
    min_position: float,
    max_position: float,
) -> Tensor:
    """Return where a car in the valley is one step later.

    The velocity changes first and the position moves with the new one. The left end is a wall that
    takes all velocity towards it; at the right end the position stops but the velocity stays.

    Args:
        state: `[2]`, position and velocity.
        push: `[]`, acceleration by the motor.
        gravity: Acceleration down a slope of 1.
        max_speed: The velocity is clipped to ± this.
        min_position: Left end.
        max_position: Right end.

    Returns:
        `[2]`.
    """
    position, velocity = state.unbind(-1)
    velocity = torch.clamp(velocity + push - gravity * torch.cos(3 * position), -max_speed, max_speed)
    position = position + velocity
    # Asked before the position is clipped, so that the wall is found without testing floats for equality.
    velocity = torch.where((position <= min_position) & (velocity < 0), 0.0, velocity)
    position = torch.where(position < min_position, min_position, position)
    position = torch.where(position > max_position, max_position, position)
    return torch.stack([position, velocity], dim=-1)


def picture(position: float, min_position: float, max_position: float, goal_position: float) -> Frame:
    """Return a picture of a car in the valley, `[H, W, 3]`, with a flag at the goal."""

    def height(x: float) -> float:
        return 0.45 * math.sin(3 * x) + 0.55

    canvas = Canvas((min_position - 0.1, max_position + 0.1), (-0.06, 1.22))
    xs = np.linspace(min_position - 0.1, max_position + 0.1, 200).tolist()
    hill = [(x, height(x)) for x in xs]
    canvas.polygon([(xs[0], -1.0), *hill, (xs[-1], -1.0)], GROUND)
    canvas.line(hill, INK)
    canvas.rectangle(min_position - 0.1, -1.0, min_position - 0.07, 2.0, INK)
    foot = (goal_position, height(goal_position))
    canvas.line([foot, (foot[0], foot[1] + 0.16)], INK)
    canvas.polygon([(foot[0], foot[1] + y) for y in (0.16, 0.1)] + [(foot[0] + 0.07, foot[1] + 0.13)], YELLOW)
    slope = math.atan(1.35 * math.cos(3 * position))

    def on_car(along: float, up: float) -> tuple[float, float]:
        x = position + along * math.cos(slope) - up * math.sin(slope)
        return x, height(position) + along * math.sin(slope) + up * math.cos(slope)

    canvas.polygon([on_car(*c) for c in ((-0.06, 0.025), (0.06, 0.025), (0.06, 0.07), (-0.06, 0.07))], RED)
    for wheel in (-0.035, 0.035):
        canvas.circle(on_car(wheel, 0.022), 0.022, INK)
    return canvas.frame()


@tree.struct
class MountainCar:
    """The environment; its numbers may be tensors, to `vmap` the dynamics over them.

    State: `[2]` float32, the position of the car and its velocity in positions per step. The
    observation is the state. Actions: 0 accelerates to the left, 1 not at all, 2 to the right.
    Reward: -1 for every step, the last included.
    """

    render_fps = 30
    """pictures per second of a film"""
    reset_options = ("low", "high")
    """what Gymnasium's `reset(options=...)` may say: arguments of `starting`"""

    force: float = 0.001
    """acceleration by the motor, positions per step²"""
    gravity: float = 0.0025
    """acceleration down a slope of 1, positions per step²"""
    max_speed: float = 0.07
    """positions per step; the velocity is clipped to ± this"""
    min_position: float = -1.2
    """left end, where a wall stops the car"""
    max_position: float = 0.6
    """right end; the position is clipped there"""
    goal_position: float = 0.5
    """an episode terminates from here on to the right"""
    goal_velocity: float = 0.0
    """positions per step; slower than this, the goal does not count"""
    initial_low: float = -0.6
    """the position starts uniformly between this"""
    initial_high: float = -0.4
    """and this, the velocity at 0"""
    max_episode_steps: int | None = tree.static(default=200)
    """time limit; None for none"""

    def __post_init__(self) -> None:
        checks.settings(self, "MountainCar", not_negative=("force",))
        check_valley(self, "MountainCar")

    @property
    def observation_space(self) -> spaces.Box:
        """Position and velocity between their bounds."""
        return bounds(float(self.min_position), float(self.max_position), float(self.max_speed))

    @property
    def action_space(self) -> spaces.Discrete:
        """0 accelerates to the left, 1 not at all, 2 to the right."""
        return _ACTIONS

    def initial(self, key: Tensor) -> Tensor:
        """Return the first state of an episode, `[2]`: at rest."""
        position = random.uniform(key, (), self.initial_low, self.initial_high)
        return torch.stack([position, torch.zeros_like(position)], dim=-1)

    def starting(self, low: float | None = None, high: float | None = None) -> MountainCar:
        """Return the environment in which the position starts uniformly between two numbers."""
        low = self.initial_low if low is None else low
        high = self.initial_high if high is None else high
        beginnings.ordered("MountainCar.reset", low, high)
        return tree.replace(self, initial_low=low, initial_high=high)

    def transition(self, state: Tensor, action: Tensor, key: Tensor) -> Tensor:
        """Return the state that follows, `[2]`; deterministic, the key is not used."""
        return roll(
            state,
            (action - 1).to(state.dtype) * self.force,
            gravity=self.gravity,
            max_speed=self.max_speed,
            min_position=self.min_position,
            max_position=self.max_position,
        )

    def observation(self, state: Tensor, key: Tensor) -> Tensor:
        """Return what the agent sees of a state, `[2]`: all of it."""
        return state

    def reward(self, state: Tensor, action: Tensor, next_state: Tensor, key: Tensor) -> Tensor:
        """Return -1, `[]` float32."""
        return torch.full((), -1.0, dtype=torch.float32, device=state.device)

    def terminal(self, state: Tensor, key: Tensor) -> Tensor:
        """Return whether the car is at the goal and fast enough, `[]` boolean."""
        position, velocity = state.unbind(-1)
        return (position >= self.goal_position) & (velocity >= self.goal_velocity)

    def render(self, state: Tensor) -> Frame:
        """Return a picture of one state, `[H, W, 3]`: the car in the valley and the flag at the goal."""
        ends = (float(self.min_position), float(self.max_position))
        return picture(float(state[0]), *ends, float(self.goal_position))
