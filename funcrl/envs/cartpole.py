"""CartPole-v1: balance a pole on a cart by pushing the cart left or right.

Barto, Sutton & Anderson 1983, "Neuronlike adaptive elements that can solve difficult learning
control problems"; the dynamics, thresholds and reward are those of Gymnasium's `CartPole-v1`, in
float32 where Gymnasium keeps its state in float64.
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
from funcrl.envs.drawing import BLUE, GROUND, INK, RED, YELLOW, Canvas, Frame


@functools.cache
def _spaces(x_threshold: float, angle_threshold: float) -> tuple[spaces.Box, spaces.Discrete]:
    high = np.array([2 * x_threshold, np.inf, 2 * angle_threshold, np.inf], dtype=np.float32)
    return spaces.Box(-high, high, dtype=np.float32), spaces.Discrete(2)


@tree.struct
class CartPole:
    """The environment; its numbers may be tensors, to `vmap` the dynamics over them.

    State: `[4]` float32, the position of the cart in metres, its velocity in m/s, the angle of the
    pole from the vertical in radians, and its angular velocity in rad/s. The observation is the
    state. Actions: 0 pushes left, 1 pushes right. Reward: 1 for every step, the last included,
    unless `sutton_barto_reward` says otherwise.
    """

    render_fps = 50
    """pictures per second of a film"""
    reset_options = ("low", "high")
    """what Gymnasium's `reset(options=...)` may say: arguments of `starting`"""

    gravity: float = 9.8
    """m/s²"""
    cart_mass: float = 1.0
    """kg"""
    pole_mass: float = 0.1
    """kg"""
    half_length: float = 0.5
    """half the pole's length, m"""
    force: float = 10.0
    """magnitude of a push, N"""
    time_step: float = 0.02
    """s, one explicit Euler step"""
    angle_threshold: float = 12 * 2 * math.pi / 360
    """rad; beyond it the episode terminates"""
    x_threshold: float = 2.4
    """m; beyond it the episode terminates"""
    initial_range: float = 0.05
    """every component starts uniformly within ± this of `initial_center`"""
    initial_center: float = 0.0
    """middle of the range in which every component starts"""
    sutton_barto_reward: bool = tree.static(default=False)
    """whether the step that ends the episode by a fall pays -1 and every other one 0"""
    max_episode_steps: int | None = tree.static(default=500)
    """time limit; None for none"""

    def __post_init__(self) -> None:
        checks.settings(
            self,
            "CartPole",
            not_negative=("gravity", "force", "initial_range"),
            positive=("cart_mass", "pole_mass", "half_length", "time_step", "angle_threshold", "x_threshold"),
            flags=("sutton_barto_reward",),
        )
        checks.number("CartPole", "initial_center", self.initial_center, -math.inf, math.inf)
        checks.time_limit("CartPole", self.max_episode_steps)

    @property
    def observation_space(self) -> spaces.Box:
        """Twice the thresholds, so that the last observation of an episode is inside."""
        return _spaces(float(self.x_threshold), float(self.angle_threshold))[0]

    @property
    def action_space(self) -> spaces.Discrete:
        """0 pushes left, 1 pushes right."""
        return _spaces(float(self.x_threshold), float(self.angle_threshold))[1]

    def initial(self, key: Tensor) -> Tensor:
        """Return the first state of an episode, `[4]`."""
        low, high = self.initial_center - self.initial_range, self.initial_center + self.initial_range
        return random.uniform(key, (4,), low, high)

    def starting(self, low: float | None = None, high: float | None = None) -> CartPole:
        """Return the environment in which every component starts uniformly between two numbers."""
        low = self.initial_center - self.initial_range if low is None else low
        high = self.initial_center + self.initial_range if high is None else high
        beginnings.ordered("CartPole.reset", low, high)
        return tree.replace(self, initial_center=(low + high) / 2, initial_range=(high - low) / 2)

    def transition(self, state: Tensor, action: Tensor, key: Tensor) -> Tensor:
        """Return the state that follows, `[4]`; deterministic, the key is not used."""
        x, x_velocity, angle, angle_velocity = state.unbind(-1)
        force = self.force * (2.0 * (action == 1).to(state.dtype) - 1.0)
        total_mass = self.cart_mass + self.pole_mass
        cos, sin = torch.cos(angle), torch.sin(angle)
        temp = (force + self.pole_mass * self.half_length * angle_velocity**2 * sin) / total_mass
        angle_acceleration = (self.gravity * sin - cos * temp) / (
            self.half_length * (4.0 / 3.0 - self.pole_mass * cos**2 / total_mass)
        )
        x_acceleration = temp - self.pole_mass * self.half_length * angle_acceleration * cos / total_mass
        return torch.stack(
            [
                x + self.time_step * x_velocity,
                x_velocity + self.time_step * x_acceleration,
                angle + self.time_step * angle_velocity,
                angle_velocity + self.time_step * angle_acceleration,
            ],
            dim=-1,
        )

    def observation(self, state: Tensor, key: Tensor) -> Tensor:
        """Return what the agent sees of a state, `[4]`: all of it."""
        return state

    def reward(self, state: Tensor, action: Tensor, next_state: Tensor, key: Tensor) -> Tensor:
        """Return 1, or with `sutton_barto_reward` -1 for a fall and 0 otherwise, `[]` float32."""
        if self.sutton_barto_reward:
            return 0.0 - self.terminal(next_state, key).to(torch.float32)
        return torch.ones((), dtype=torch.float32, device=state.device)

    def terminal(self, state: Tensor, key: Tensor) -> Tensor:
        """Return whether the cart is off the track or the pole has fallen, `[]` boolean."""
        x, _, angle, _ = state.unbind(-1)
        return (x.abs() > self.x_threshold) | (angle.abs() > self.angle_threshold)

    def render(self, state: Tensor) -> Frame:
        """Return a picture of one state, `[H, W, 3]`; the marks on the track are where an episode ends."""
        x, _, angle, _ = state.tolist()
        edge, length = float(self.x_threshold), 2 * float(self.half_length)
        canvas = Canvas((-1.15 * edge, 1.15 * edge), (-0.4, length + 0.6))
        canvas.rectangle(-1.15 * edge, -0.4, 1.15 * edge, 0.0, GROUND)
        for mark in (-edge, edge):
            canvas.line([(mark, -0.2), (mark, 0.0)], RED, 3)
        canvas.rectangle(x - 0.28, 0.12, x + 0.28, 0.36, INK)
        for wheel in (x - 0.16, x + 0.16):
            canvas.circle((wheel, 0.09), 0.09, BLUE)
        axle = (x, 0.32)
        canvas.rod(axle, (x + length * math.sin(angle), 0.32 + length * math.cos(angle)), 0.1, YELLOW)
        canvas.circle(axle, 0.035, INK)
        return canvas.frame()
