"""Acrobot-v1: swing the tip of two hanging links above a line by a torque at the joint between them.

Sutton 1996, "Generalization in reinforcement learning: successful examples using sparse coarse
coding", appendix; Sutton & Barto 1998, "Reinforcement learning: an introduction", section 11.3. The
constants, limits and reward are those of Gymnasium's `Acrobot-v1`, in float32 where Gymnasium keeps
its state in float64. With link masses m, lengths l, centres of mass l_c and inertia I,

    d₁ = m₁l_c₁² + m₂(l₁² + l_c₂² + 2 l₁l_c₂ cos θ₂) + 2I
    d₂ = m₂(l_c₂² + l₁l_c₂ cos θ₂) + I
    φ₂ = m₂l_c₂g sin(θ₁ + θ₂)
    φ₁ = -m₂l₁l_c₂ (θ̇₂² + 2 θ̇₁θ̇₂) sin θ₂ + (m₁l_c₁ + m₂l₁) g sin θ₁ + φ₂
    θ̈₂ = (τ + d₂/d₁ φ₁ - m₂l₁l_c₂ θ̇₁² sin θ₂ - φ₂) / (m₂l_c₂² + I - d₂²/d₁)
    θ̈₁ = -(d₂θ̈₂ + φ₁) / d₁.

The article leaves out the term in θ̇₁² of θ̈₂ (`dynamics="nips"`); the book has it, and Gymnasium by
default too.
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
from funcrl.envs.drawing import BLUE, INK, YELLOW, Canvas, Frame

Motion = tuple[Tensor, Tensor, Tensor, Tensor]
"""θ₁, θ₂ and their derivatives by time, or these four's own derivatives, `[]` each"""

_ACTIONS = spaces.Discrete(3)


@functools.cache
def _space(max_velocity_1: float, max_velocity_2: float) -> spaces.Box:
    high = np.array([1.0, 1.0, 1.0, 1.0, max_velocity_1, max_velocity_2], dtype=np.float32)
    return spaces.Box(-high, high, dtype=np.float32)


def _ahead(motion: Motion, slope: Motion, duration: float) -> Motion:
    a, b, c, d = (x + duration * x_slope for x, x_slope in zip(motion, slope, strict=True))
    return a, b, c, d


def _wrap(angle: Tensor) -> Tensor:
    # Rounding to whole turns leaves what is within ± π as it is, which a shift by π would not.
    return angle - 2 * math.pi * torch.round(angle / (2 * math.pi))


@tree.struct
class Acrobot:
    """The environment; its numbers may be tensors, to `vmap` the dynamics over them.

    State: `[4]` float32, the angle θ₁ of the first link from hanging down and the angle θ₂ of the
    second from the first, in radians within ± π, and their velocities in rad/s. Observation: `[6]`
    float32, cos θ₁, sin θ₁, cos θ₂, sin θ₂ and the velocities. Actions: 0, 1 and 2 apply the torques
    -1, 0 and 1 N·m to the joint between the links. Reward: -1 for every step but the one that
    reaches the line, which gives 0.
    """

    render_fps = 15
    """pictures per second of a film"""
    reset_options = ("low", "high")
    """what Gymnasium's `reset(options=...)` may say: arguments of `starting`"""

    gravity: float = 9.8
    """g, m/s²"""
    mass_1: float = 1.0
    """m₁, mass of the first link, kg"""
    mass_2: float = 1.0
    """m₂, mass of the second link, kg"""
    length_1: float = 1.0
    """l₁, m"""
    length_2: float = 1.0
    """l₂, m; the dynamics do not depend on it, the height of the tip does"""
    center_1: float = 0.5
    """l_c₁, from the pivot to the first link's centre of mass, m"""
    center_2: float = 0.5
    """l_c₂, from the joint to the second link's centre of mass, m"""
    inertia: float = 1.0
    """I, of either link about its centre of mass, kg·m²"""
    torque: float = 1.0
    """magnitude of the torque, N·m"""
    torque_noise: float = 0.0
    """N·m; every step adds to the torque a number drawn uniformly from ± this"""
    max_velocity_1: float = 4 * math.pi
    """rad/s; the velocity of θ₁ is clipped to ± this"""
    max_velocity_2: float = 9 * math.pi
    """rad/s; the velocity of θ₂ is clipped to ± this"""
    time_step: float = 0.2
    """s, one Runge-Kutta step"""
    target_height: float = 1.0
    """m above the pivot; an episode terminates when the tip is higher"""
    initial_range: float = 0.1
    """every component starts uniformly within ± this of `initial_center`"""
    initial_center: float = 0.0
    """middle of the range in which every component starts"""
    dynamics: str = tree.static(default="book")
    """`"book"` for Sutton & Barto's equations, `"nips"` for those printed in the article"""
    max_episode_steps: int | None = tree.static(default=500)
    """time limit; None for none"""

    def __post_init__(self) -> None:
        checks.settings(
            self,
            "Acrobot",
            not_negative=("gravity", "center_1", "center_2", "torque", "torque_noise", "initial_range"),
            positive=(
                *("mass_1", "mass_2", "length_1", "length_2", "inertia"),
                *("max_velocity_1", "max_velocity_2", "time_step"),
            ),
        )
        for name in ("target_height", "initial_center"):
            checks.number("Acrobot", name, getattr(self, name), -math.inf, math.inf)
        checks.known("Acrobot", "dynamics", self.dynamics, ("book", "nips"))
        checks.time_limit("Acrobot", self.max_episode_steps)

    @property
    def observation_space(self) -> spaces.Box:
        """Cosines and sines of the angles, and the velocities up to their limits."""
        return _space(float(self.max_velocity_1), float(self.max_velocity_2))

    @property
    def action_space(self) -> spaces.Discrete:
        """0 turns the second link clockwise, 1 leaves it alone, 2 turns it counter-clockwise."""
        return _ACTIONS

    def initial(self, key: Tensor) -> Tensor:
        """Return the first state of an episode, `[4]`."""
        low, high = self.initial_center - self.initial_range, self.initial_center + self.initial_range
        return random.uniform(key, (4,), low, high)

    def _slope(self, motion: Motion, torque: Tensor) -> Motion:
        """Return the derivatives of the four by time: the equations at the top of this file."""
        angle_1, angle_2, velocity_1, velocity_2 = motion
        sin, cos = torch.sin(angle_2), torch.cos(angle_2)
        m1, m2, l1, lc1, lc2 = self.mass_1, self.mass_2, self.length_1, self.center_1, self.center_2
        d1 = m1 * lc1**2 + m2 * (l1**2 + lc2**2 + 2 * l1 * lc2 * cos) + 2 * self.inertia
        d2 = m2 * (lc2**2 + l1 * lc2 * cos) + self.inertia
        phi2 = m2 * lc2 * self.gravity * torch.sin(angle_1 + angle_2)
        phi1 = (
            -m2 * l1 * lc2 * (velocity_2**2 + 2 * velocity_1 * velocity_2) * sin
            + (m1 * lc1 + m2 * l1) * self.gravity * torch.sin(angle_1)
            + phi2
        )
        force = torque + d2 / d1 * phi1 - phi2
        if self.dynamics == "book":
            force = force - m2 * l1 * lc2 * velocity_1**2 * sin
        acceleration_2 = force / (m2 * lc2**2 + self.inertia - d2**2 / d1)
        acceleration_1 = -(d2 * acceleration_2 + phi1) / d1
        return velocity_1, velocity_2, acceleration_1, acceleration_2

    def starting(self, low: float | None = None, high: float | None = None) -> Acrobot:
        """Return the environment in which every component starts uniformly between two numbers."""
        low = self.initial_center - self.initial_range if low is None else low
        high = self.initial_center + self.initial_range if high is None else high
        beginnings.ordered("Acrobot.reset", low, high)
        return tree.replace(self, initial_center=(low + high) / 2, initial_range=(high - low) / 2)

    def transition(self, state: Tensor, action: Tensor, key: Tensor) -> Tensor:
        """Return the state that follows, `[4]`, by one classical Runge-Kutta step of fourth order."""
        # Drawn also where there is none, so that the noise may differ between the lanes of a vmap.
        noise = self.torque_noise * random.uniform(key, (), -1.0, 1.0)
        torque = (action - 1).to(state.dtype) * self.torque + noise
        start: Motion = state.unbind(-1)  # type: ignore[assignment]
        first = self._slope(start, torque)
        second = self._slope(_ahead(start, first, self.time_step / 2), torque)
        third = self._slope(_ahead(start, second, self.time_step / 2), torque)
        fourth = self._slope(_ahead(start, third, self.time_step), torque)
        angle_1, angle_2, velocity_1, velocity_2 = (
            x + self.time_step / 6 * (a + 2 * b + 2 * c + d)
            for x, a, b, c, d in zip(start, first, second, third, fourth, strict=True)
        )
        return torch.stack(
            [
                _wrap(angle_1),
                _wrap(angle_2),
                torch.clamp(velocity_1, -self.max_velocity_1, self.max_velocity_1),
                torch.clamp(velocity_2, -self.max_velocity_2, self.max_velocity_2),
            ],
            dim=-1,
        )

    def observation(self, state: Tensor, key: Tensor) -> Tensor:
        """Return what the agent sees of a state, `[6]`."""
        angles, velocities = state[..., :2], state[..., 2:]
        trigonometry = torch.stack([torch.cos(angles), torch.sin(angles)], dim=-1)
        return torch.cat([trigonometry.flatten(-2), velocities], dim=-1)

    def reward(self, state: Tensor, action: Tensor, next_state: Tensor, key: Tensor) -> Tensor:
        """Return 0 if the tip is above the line now, -1 otherwise, `[]` float32."""
        return self.terminal(next_state, key).to(torch.float32) - 1.0

    def terminal(self, state: Tensor, key: Tensor) -> Tensor:
        """Return whether the tip is above the line, `[]` boolean."""
        angle_1, angle_2, _, _ = state.unbind(-1)
        height = -self.length_1 * torch.cos(angle_1) - self.length_2 * torch.cos(angle_1 + angle_2)
        return height > self.target_height

    def render(self, state: Tensor) -> Frame:
        """Return a picture of one state, `[H, W, 3]`: the links, their joints and the target line."""
        angle_1, angle_2, _, _ = state.tolist()
        l1, l2, line = float(self.length_1), float(self.length_2), float(self.target_height)
        reach = l1 + l2
        canvas = Canvas((-1.1 * reach, 1.1 * reach), (-1.1 * reach, 1.1 * reach))
        canvas.line([(-1.1 * reach, line), (1.1 * reach, line)], INK, 3)
        joint = (l1 * math.sin(angle_1), -l1 * math.cos(angle_1))
        tip = (joint[0] + l2 * math.sin(angle_1 + angle_2), joint[1] - l2 * math.cos(angle_1 + angle_2))
        canvas.rod((0.0, 0.0), joint, 0.09 * reach, BLUE)
        canvas.rod(joint, tip, 0.09 * reach, BLUE)
        canvas.circle((0.0, 0.0), 0.045 * reach, YELLOW)
        canvas.circle(joint, 0.045 * reach, YELLOW)
        return canvas.frame()
