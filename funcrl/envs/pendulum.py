"""Pendulum-v1: swing a rod up and hold it upright with a torque too weak to lift it at once.

The dynamics, the cost and the limits are those of Gymnasium's `Pendulum-v1`, in float32 where
Gymnasium keeps its state in float64: a uniform rod of mass m and length l that turns about its end,

    θ̈ = 3g / (2l) · sin θ + 3 / (ml²) · u,

integrated by the semi-implicit Euler method, in which the angle moves with the new velocity.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core import checks, random, tree
from funcrl.envs.drawing import INK, RED, Canvas, Frame


@functools.cache
def _spaces(max_speed: float, max_torque: float) -> tuple[spaces.Box, spaces.Box]:
    high = np.array([1.0, 1.0, max_speed], dtype=np.float32)
    return (
        spaces.Box(-high, high, dtype=np.float32),
        spaces.Box(-max_torque, max_torque, (1,), dtype=np.float32),
    )


@tree.struct
class Pendulum:
    """The environment; its numbers may be tensors, to `vmap` the dynamics over them.

    State: `[2]` float32, the angle θ from the upright in radians, counter-clockwise, and its
    velocity in rad/s. As in Gymnasium the angle counts whole turns. Observation: `[3]` float32,
    cos θ, sin θ and the velocity. Action: `[1]` float32, the torque u in N·m. Reward: minus
    the cost θ² + 0.1 θ̇² + 0.001 u² of the state that is left, with θ within ± π. No state is
    terminal.
    """

    render_fps = 30
    """pictures per second of a film"""
    reset_options = ("x_init", "y_init")
    """what Gymnasium's `reset(options=...)` may say: arguments of `starting`"""

    gravity: float = 10.0
    """m/s²"""
    mass: float = 1.0
    """kg"""
    length: float = 1.0
    """m"""
    time_step: float = 0.05
    """s, one Euler step"""
    max_speed: float = 8.0
    """rad/s; the velocity is clipped to ± this"""
    max_torque: float = 2.0
    """N·m; the action is clipped to ± this, in the cost as well"""
    speed_cost: float = 0.1
    """weight of θ̇² in the cost, s²/rad²"""
    torque_cost: float = 0.001
    """weight of u² in the cost, 1/(N·m)²"""
    initial_angle: float = math.pi
    """rad; the angle starts uniformly in ± this"""
    initial_speed: float = 1.0
    """rad/s; the velocity starts uniformly in ± this"""
    max_episode_steps: int | None = tree.static(default=200)
    """time limit; None for none"""

    def __post_init__(self) -> None:
        checks.settings(
            self,
            "Pendulum",
            not_negative=("gravity", "speed_cost", "torque_cost", "initial_angle", "initial_speed"),
            positive=("mass", "length", "time_step", "max_speed", "max_torque"),
        )
        checks.time_limit("Pendulum", self.max_episode_steps)

    @property
    def observation_space(self) -> spaces.Box:
        """Cosine and sine of the angle, and the velocity up to `max_speed`."""
        return _spaces(float(self.max_speed), float(self.max_torque))[0]

    @property
    def action_space(self) -> spaces.Box:
        """The torque, up to `max_torque` either way."""
        return _spaces(float(self.max_speed), float(self.max_torque))[1]

    def initial(self, key: Tensor) -> Tensor:
        """Return the first state of an episode, `[2]`."""
        angle, velocity = random.uniform(key, (2,), -1.0, 1.0).unbind(-1)
        return torch.stack([angle * self.initial_angle, velocity * self.initial_speed], dim=-1)

    def starting(self, x_init: float | None = None, y_init: float | None = None) -> Pendulum:
        """Return the environment in which the angle starts in ± `x_init`, the velocity in ± `y_init`."""
        for name, limit in (("x_init", x_init), ("y_init", y_init)):
            fine = limit is None or limit >= 0
            checks.require(fine, "Pendulum.reset", f"options[{name!r}]", "be at least 0", limit)
        angle = self.initial_angle if x_init is None else x_init
        speed = self.initial_speed if y_init is None else y_init
        return tree.replace(self, initial_angle=angle, initial_speed=speed)

    def _torque(self, state: Tensor, action: Tensor) -> Tensor:
        """Return what the motor truly applies, `[]`, in the precision of the state."""
        return torch.clamp(action[..., 0].to(state.dtype), -self.max_torque, self.max_torque)

    def transition(self, state: Tensor, action: Tensor, key: Tensor) -> Tensor:
        """Return the state that follows, `[2]`; deterministic, the key is not used."""
        angle, velocity = state.unbind(-1)
        fall = 3 * self.gravity / (2 * self.length) * torch.sin(angle)
        push = 3 / (self.mass * self.length**2) * self._torque(state, action)
        velocity = torch.clamp(velocity + (fall + push) * self.time_step, -self.max_speed, self.max_speed)
        return torch.stack([angle + velocity * self.time_step, velocity], dim=-1)

    def observation(self, state: Tensor, key: Tensor) -> Tensor:
        """Return what the agent sees of a state, `[3]`: cos θ, sin θ and the velocity."""
        angle, velocity = state.unbind(-1)
        return torch.stack([torch.cos(angle), torch.sin(angle), velocity], dim=-1)

    def reward(self, state: Tensor, action: Tensor, next_state: Tensor, key: Tensor) -> Tensor:
        """Return minus the cost of the state and the torque, `[]`, between about -16.3 and 0."""
        angle, velocity = state.unbind(-1)
        # Rounding to whole turns is exact near the upright, which a shift by π would not be.
        angle = angle - 2 * math.pi * torch.round(angle / (2 * math.pi))
        torque = self._torque(state, action)
        return -(angle**2 + self.speed_cost * velocity**2 + self.torque_cost * torque**2)

    def terminal(self, state: Tensor, key: Tensor) -> Tensor:
        """Return False, `[]` boolean: only the time limit ends an episode."""
        return torch.zeros((), dtype=torch.bool, device=state.device)

    def render(self, state: Tensor) -> Frame:
        """Return a picture of one state, `[H, W, 3]`: the rod and the pivot that holds it."""
        angle, length = float(state[0]), float(self.length)
        view = 1.4 * length
        canvas = Canvas((-view, view), (-view, view))
        tip = (-length * math.sin(angle), length * math.cos(angle))
        canvas.rod((0.0, 0.0), tip, 0.18 * length, RED)
        canvas.circle((0.0, 0.0), 0.045 * length, INK)
        return canvas.frame()
