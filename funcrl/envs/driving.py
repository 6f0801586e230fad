"""Driving-v0: drive a car around a closed track, seeing the road's edges and the speedometer.

One of funcrl's own. The car is the kinematic bicycle model, with the reference point in the middle of
the rear axle (Kong et al. 2015, "Kinematic and dynamic vehicle models for autonomous driving control
design", describe it for the centre of mass), on tyres that hold only so much sideways.
"""

from __future__ import annotations

import functools
import math
import numbers

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core import checks, random, tree
from funcrl.envs.drawing import INK, RED, YELLOW, Canvas, Frame, Point


@functools.cache
def _spaces(num_rays: int) -> tuple[spaces.Box, spaces.Box]:
    low, high = np.array([-1, 0, 0], dtype=np.float32), np.ones(3, dtype=np.float32)
    return spaces.Box(0.0, 1.0, (num_rays + 1,), np.float32), spaces.Box(low, high, dtype=np.float32)


@tree.struct
class Car:
    """The car, each `[]` float32."""

    x: Tensor
    """m, middle of the rear axle; the track goes round the origin"""
    y: Tensor
    """m"""
    heading: Tensor
    """rad, counter-clockwise from the x-axis"""
    speed: Tensor
    """m/s, forwards"""
    progress: Tensor
    """m around the track since the episode began, see `Driving`; negative for driving it backwards"""


@tree.struct
class Driving:
    """The environment; its numbers may be tensors, to `vmap` the dynamics over them.

    Track: at polar angle φ its centre line is r(φ) = mean_radius · (1 + second_harmonic · cos 2φ +
    third_harmonic · cos 3φ) from the origin. A point (ρ, φ) lies (ρ - r) / √(1 + (r'/r)²) off the
    centre line (to first order its distance), and on the road where this is within ± half_width.

    Actions: `[3]` steering in [-1, 1] (positive is left), throttle and brake in [0, 1], clipped.
    With speed v, heading θ, steering s and time step Δ:

        v ← v + Δ (throttle · max_acceleration - brake · max_braking - drag · v²), in [0, max_speed]
        κ = tan(s · max_steering) / wheelbase, in ± grip / v²
        (x, y) ← (x, y) + Δ v (cos, sin)(θ + Δ v κ / 2)
        θ ← θ + Δ v κ

    so the tyres hold up to `grip`, and a car that is too fast for a bend goes straight on.

    Observation: `[num_rays + 1]` float32 in [0, 1]. Rays from the car, evenly spread from the right
    to the left of its heading, each the distance to the edge of the road as a fraction of
    `sensor_range`; it is sought at `num_samples` points of the ray and interpolated between the last
    on the road and the first off it, so what is thinner than their distance may be missed. Then the
    speed as a fraction of `max_speed`.

    Reward: `progress_reward` times the metres of progress, mean_radius times the change of φ (a lap,
    counter-clockwise, is 2π · mean_radius); minus `off_road_penalty` for leaving the road with the
    rear axle's middle, which terminates the episode.

    To compare with: `scripted_action` earns 73.1 (standard deviation 0.1 over 100 keys), which is 2.3
    laps without leaving the road. It is not optimal. The same driver without brakes is off the road
    within half a lap.
    """

    render_fps = 10
    """pictures per second of a film"""

    mean_radius: float = 50.0
    """m"""
    second_harmonic: float = 0.15
    """fraction of the mean radius: an oval"""
    third_harmonic: float = 0.2
    """fraction of the mean radius: three corners"""
    half_width: float = 4.0
    """m, half the width of the road"""
    max_acceleration: float = 5.0
    """m/s², at full throttle"""
    max_braking: float = 10.0
    """m/s², at full brake"""
    drag: float = 0.005
    """1/m, deceleration by the air over the square of the speed"""
    max_speed: float = 30.0
    """m/s"""
    max_steering: float = 0.5
    """rad, angle of the front wheels at full steering, at most 1.5"""
    wheelbase: float = 2.5
    """m"""
    grip: float = 8.0
    """m/s², largest sideways acceleration"""
    sensor_range: float = 40.0
    """m"""
    field_of_view: float = math.pi
    """rad, angle between the first ray and the last"""
    progress_reward: float = 0.1
    """1/m"""
    off_road_penalty: float = 10.0
    """for leaving the road"""
    initial_offset: float = 1.0
    """m; the car starts uniformly within ± this of the centre line, at φ = 0"""
    initial_angle: float = 0.1
    """rad; its heading starts uniformly within ± this of the centre line's"""
    time_step: float = 0.1
    """s"""
    num_rays: int = tree.static(default=9)
    """at least 2"""
    num_samples: int = tree.static(default=32)
    """points on a ray"""
    max_episode_steps: int | None = tree.static(default=500)
    """time limit; None for none"""

    def __post_init__(self) -> None:
        positive = ("mean_radius", "half_width", "max_speed", "wheelbase", "sensor_range", "time_step")
        rates = ("max_acceleration", "max_braking", "drag", "grip")
        others = ("field_of_view", "progress_reward", "off_road_penalty", "initial_offset", "initial_angle")
        checks.settings(
            self, "Driving", positive=positive, not_negative=(*rates, *others), counts=("num_samples",)
        )
        checks.number("Driving", "max_steering", self.max_steering, 0, 1.5, open_low=True)
        checks.integer("Driving", "num_rays", self.num_rays, 2)
        checks.time_limit("Driving", self.max_episode_steps)
        self._check_track()

    def _check_track(self) -> None:
        for name in ("second_harmonic", "third_harmonic"):
            checks.number("Driving", name, getattr(self, name), -1, 1)
        shape = (self.mean_radius, self.second_harmonic, self.third_harmonic, self.half_width)
        if all(isinstance(value, numbers.Real) for value in shape):  # tensors: one value a lane
            nearest = self.mean_radius * (1 - abs(self.second_harmonic) - abs(self.third_harmonic))
            hold = f"be below the centre line's least distance from the origin, about {nearest:g}"
            checks.require(self.half_width < nearest, "Driving", "half_width", hold, self.half_width)
        if all(isinstance(value, numbers.Real) for value in (self.initial_offset, self.half_width)):
            hold = "be below half_width, so that every episode begins on the road"
            checks.require(
                self.initial_offset < self.half_width, "Driving", "initial_offset", hold, self.initial_offset
            )

    @property
    def observation_space(self) -> spaces.Box:
        """Rays and speed, each from 0 to 1."""
        return _spaces(self.num_rays)[0]

    @property
    def action_space(self) -> spaces.Box:
        """Steering from -1 (right) to 1 (left), throttle and brake from 0 to 1."""
        return _spaces(self.num_rays)[1]

    def initial(self, key: Tensor) -> Car:
        """Return the first state of an episode: standing at φ = 0, about in the middle of the road."""
        unit = random.uniform(key, (2,), -1.0, 1.0)
        x = (
            self.mean_radius * (1 + self.second_harmonic + self.third_harmonic)
            + self.initial_offset * unit[0]
        )
        nought = torch.zeros_like(x)
        heading = math.pi / 2 + self.initial_angle * unit[1]
        return Car(x=x, y=nought, heading=heading, speed=nought, progress=nought)

    def transition(self, state: Car, action: Tensor, key: Tensor) -> Car:
        """Return the state that follows; deterministic, the key is not used."""
        steering, throttle, brake = action.clamp(-1.0, 1.0).unbind(-1)
        thrust = throttle.clamp(min=0.0) * self.max_acceleration - brake.clamp(min=0.0) * self.max_braking
        speed = state.speed + self.time_step * (thrust - self.drag * state.speed**2)
        speed = torch.where(speed > self.max_speed, self.max_speed, speed.clamp(min=0.0))
        curvature = torch.tan(steering * self.max_steering) / self.wheelbase
        sharpest = self.grip / (speed**2).clamp(min=1e-6)
        curvature = torch.maximum(torch.minimum(curvature, sharpest), -sharpest)
        turn = self.time_step * speed * curvature
        direction = state.heading + turn / 2
        x = state.x + self.time_step * speed * torch.cos(direction)
        y = state.y + self.time_step * speed * torch.sin(direction)
        angle = torch.atan2(state.x * y - state.y * x, state.x * x + state.y * y)
        return Car(
            x=x,
            y=y,
            heading=state.heading + turn,
            speed=speed,
            progress=state.progress + self.mean_radius * angle,
        )

    def _excess(self, x: Tensor, y: Tensor) -> Tensor:
        """Return how far points are off the road in metres, negative on it, in the shape of `x`."""
        distance = torch.sqrt(x**2 + y**2).clamp(min=1e-6)
        cos, sin = x / distance, y / distance
        cos_2, sin_2 = cos**2 - sin**2, 2 * cos * sin
        cos_3, sin_3 = cos * cos_2 - sin * sin_2, sin * cos_2 + cos * sin_2
        shape = 1 + self.second_harmonic * cos_2 + self.third_harmonic * cos_3
        slope = (2 * self.second_harmonic * sin_2 + 3 * self.third_harmonic * sin_3) / shape
        offset = (distance - self.mean_radius * shape) / torch.sqrt(1 + slope**2)
        return offset.abs() - self.half_width

    def _angles(self, device: torch.device) -> Tensor:
        """Return the rays' angles from the heading, `[num_rays]`, from the right to the left."""
        return (torch.arange(self.num_rays, device=device) / (self.num_rays - 1) - 0.5) * self.field_of_view

    def observation(self, state: Car, key: Tensor) -> Tensor:
        """Return what the driver sees of a state, `[num_rays + 1]`: the rays and the speed."""
        steps = torch.arange(self.num_samples + 1, device=state.x.device) / self.num_samples
        ways = self.sensor_range * steps
        directions = (state.heading + self._angles(state.x.device)).unsqueeze(-1)
        excess = self._excess(state.x + ways * torch.cos(directions), state.y + ways * torch.sin(directions))
        before, after = excess[:, :-1], excess[:, 1:]
        leaves = (before < 0) & (after >= 0)
        fraction = before / torch.where(leaves, before - after, 1.0)
        readings = torch.where(leaves, steps[:-1] + fraction / self.num_samples, 1.0).amin(dim=-1)
        rays = torch.where(excess[:, 0] < 0, readings, 0.0)
        return torch.cat([rays, (state.speed / self.max_speed).reshape(1)])

    def reward(self, state: Car, action: Tensor, next_state: Car, key: Tensor) -> Tensor:
        """Return what the progress is worth, less the penalty off the road, `[]` float32."""
        penalty = torch.where(self.terminal(next_state, key), self.off_road_penalty, 0.0)
        return self.progress_reward * (next_state.progress - state.progress) - penalty

    def terminal(self, state: Car, key: Tensor) -> Tensor:
        """Return whether the car is off the road, `[]` boolean."""
        return self._excess(state.x, state.y) >= 0

    def scripted_action(self, observation: Tensor) -> Tensor:
        """Return what a simple driver does, `[3]`: a policy to compare with, see `Driving`.

        It steers towards the mean of the rays, each weighted with its square, and drives as fast as
        it could stop within the ray straight ahead when slowing down by `grip`.

        Args:
            observation: `[num_rays + 1]`.
        """
        rays, speed = observation[:-1], observation[-1] * self.max_speed
        angles = self._angles(observation.device)
        left, ahead = rays**2 * torch.sin(angles), rays**2 * torch.cos(angles)
        free = rays[self.num_rays // 2] * self.sensor_range
        push = 0.5 * (torch.sqrt(2 * self.grip * free) - speed)
        steering = (2 * torch.atan2(left.sum(), ahead.sum())).clamp(-1.0, 1.0)
        return torch.stack([steering, push.clamp(0.0, 1.0), (-push).clamp(0.0, 1.0)])

    def _edges(self, sides: tuple[float, ...], points: int = 240) -> list[list[Point]]:
        """Return closed lines at these distances in metres from the centre line, outwards."""
        angle = np.linspace(0.0, 2 * math.pi, points + 1)
        second, third = float(self.second_harmonic), float(self.third_harmonic)
        shape = 1 + second * np.cos(2 * angle) + third * np.cos(3 * angle)
        slope = (2 * second * np.sin(2 * angle) + 3 * third * np.sin(3 * angle)) / shape
        lines = []
        for side in sides:
            radius = float(self.mean_radius) * shape + side * np.sqrt(1 + slope**2)
            lines.append(list(zip(radius * np.cos(angle), radius * np.sin(angle), strict=True)))
        return lines

    def render(self, state: Car) -> Frame:
        """Return a picture of a state: the track from above, the rays, the car larger than life.

        Args:
            state: The environment's own state; `.inner` of what `envs.reset` and `envs.step` return.
        """
        width, grass, asphalt = float(self.half_width), "#b9d3a5", "#6d7278"
        outer, inner, center, around = self._edges((width, -width, 0.0, 2.5 * width))
        xs, ys = zip(*around, strict=True)
        canvas = Canvas((min(xs), max(xs)), (min(ys), max(ys)), width=640, background=grass)
        canvas.polygon(outer, asphalt)
        canvas.polygon(inner, grass)
        for begin in range(0, len(center) - 1, 4):
            canvas.line(center[begin : begin + 3], "#8d9298", 1)
        for edge in (outer, inner):
            canvas.line(edge, "white", 3)
        for column, row in np.ndindex(2, 8):  # the chequered line of start and finish
            x, y, side = inner[0][0] + row * width / 4, (column - 1) * width / 4, width / 4
            color = "white" if (column + row) % 2 else INK
            canvas.rectangle(x, y, x + side, y + side, color)
        self._draw_car(canvas, state)
        return canvas.frame()

    def _draw_car(self, canvas: Canvas, state: Car) -> None:
        x, y, heading = float(state.x), float(state.y), float(state.heading)
        readings = self.observation(state, torch.zeros(2, dtype=torch.int32, device=state.x.device))[:-1]
        for angle, reading in zip(self._angles(torch.device("cpu")).tolist(), readings.tolist(), strict=True):
            length, direction = reading * float(self.sensor_range), heading + angle
            end = (x + length * math.cos(direction), y + length * math.sin(direction))
            canvas.line([(x, y), end], "#e8d9a0", 1)
            canvas.circle(end, float(self.half_width) / 8, YELLOW)
        size = float(self.half_width) / 2
        cos, sin = math.cos(heading) * size, math.sin(heading) * size

        def part(back: float, front: float, half: float, color: str) -> None:
            corners = [(back, half), (front, half), (front, -half), (back, -half)]
            canvas.polygon([(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in corners], color)

        for axle in (0.0, 1.6):
            part(axle - 0.3, axle + 0.3, 0.75, INK)
        part(-0.6, 2.2, 0.6, RED)
        part(0.9, 1.4, 0.5, "#cfe3f1")
