"""Draw episodes of three environments: a GIF and a contact sheet each.

python examples/pictures.py [--out pictures] [--steps 240]

Pillow draws: pip install 'funcrl[render]'

Nothing is trained here: the pole is balanced by a linear controller, the robot follows the shortest
path, and the car is driven by a few lines of code.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from funcrl import envs
from funcrl.core import random

Policy = Callable[[Any, envs.EnvState], torch.Tensor]


@dataclass(frozen=True)
class Episode:
    """What to draw."""

    name: str
    policy: Policy
    seed: int
    every: int
    """steps from picture to picture"""
    milliseconds: int
    """for which a picture is shown"""
    params: dict[str, float] = field(default_factory=dict)
    """what to change in the environment"""


def balance(env: Any, state: envs.EnvState) -> torch.Tensor:
    """Push the cart to where the pole is falling."""
    weights = torch.tensor([0.02, 0.05, 1.0, 0.3])
    right: torch.Tensor = state.obs @ weights > 0
    return right.long()


def shortest_path(env: Any, state: envs.EnvState) -> torch.Tensor:
    """Take the first step of a shortest path."""
    return torch.tensor(env.shortest_path(state.inner)[0])


def drive(env: Any, state: envs.EnvState) -> torch.Tensor:
    """Steer to where the road is free, and be ready to stop within sight."""
    action: torch.Tensor = env.scripted_action(state.obs)
    return action


EPISODES = [
    Episode("CartPole-v1", balance, seed=0, every=2, milliseconds=40, params={"initial_range": 0.18}),
    Episode("GridNavigation-v0", shortest_path, seed=38, every=1, milliseconds=350),
    Episode("Driving-v0", drive, seed=0, every=2, milliseconds=60),
]


def pictures(env: Any, policy: Policy, key: torch.Tensor, num_steps: int, every: int) -> list[Image.Image]:
    """Return one picture every few steps of an episode, its first and its last state included."""
    k_reset, k_steps = random.split(key, 2)
    state = envs.reset(env, k_reset)
    frames = [env.render(state.inner)]
    for step in range(1, num_steps + 1):
        state, time_step = envs.advance(env, state, policy(env, state), random.fold_in(k_steps, step))
        over = bool(time_step.terminated | time_step.truncated) or step == num_steps
        if over or step % every == 0:
            frames.append(env.render(state.inner))
        if over:
            break
    return [Image.fromarray(frame) for frame in frames]


def contact_sheet(
    images: list[Image.Image], count: int = 12, columns: int = 4, width: int = 320
) -> Image.Image:
    """Return `count` of the pictures, evenly spread over time, on one sheet."""
    chosen = sorted({round(i) for i in np.linspace(0, len(images) - 1, count)})
    height, gap = width * images[0].height // images[0].width, 8
    columns = min(columns, len(chosen))
    rows = -(-len(chosen) // columns)
    sheet = Image.new("RGB", (gap + columns * (width + gap), gap + rows * (height + gap)), "#888888")
    for place, index in enumerate(chosen):
        row, column = divmod(place, columns)
        small = images[index].resize((width, height), Image.Resampling.LANCZOS)
        sheet.paste(small, (gap + column * (width + gap), gap + row * (height + gap)))
    return sheet


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="folder to write to")
    parser.add_argument("--steps", type=int, default=240, help="steps of an episode at most")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for episode in EPISODES:
        env = envs.make(episode.name, **episode.params)
        images = pictures(env, episode.policy, random.key(episode.seed), arguments.steps, episode.every)
        stem = arguments.out / episode.name.lower().replace("-", "_")
        images[0].save(
            f"{stem}.gif", save_all=True, append_images=images[1:], duration=episode.milliseconds, loop=0
        )
        contact_sheet(images).save(f"{stem}.png")
        print(f"{episode.name}: {len(images)} pictures in {stem}.gif and {stem}.png")


if __name__ == "__main__":
    main()
