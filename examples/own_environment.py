"""An environment of your own, checked and learnt: a cat that wants to lie in the sun.

python examples/own_environment.py [--steps 81920] [--out own_environment.png]

The picture shows what eight cats have learnt, and a day of the first one: its path, and the sunny spot that it follows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from funcrl import envs, ops
from funcrl.algos import ppo
from funcrl.core import random, tree
from funcrl.io import picture
from funcrl.io.plots import draw_statistic
from funcrl.train import Result, train

DAY = 50


@tree.struct
class SunnySpot:
    """A cat on a windowsill; the sunny spot wanders, and the cat may walk left, stay, or walk right.

    State: `[2]` float32, where the cat and the middle of the spot are, from -2 to 2. The cat sees how
    far away the sun is and on which side, `[1]`. Reward: 1 for every step that ends in the sun.
    """

    stride: float = 0.25
    """how far the cat walks in a step"""
    wander: float = 0.2
    """the spot moves by up to this in a step"""
    warm: float = 0.4
    """half the width of the spot"""
    max_episode_steps: int | None = tree.static(default=DAY)
    """steps of a day"""
    observation_space = spaces.Box(-4.0, 4.0, (1,), np.float32)
    action_space = spaces.Discrete(3)

    def initial(self, key: Tensor) -> Tensor:
        """Return where cat and sun are in the morning, `[2]`."""
        return random.uniform(key, (2,), -2.0, 2.0)

    def transition(self, state: Tensor, action: Tensor, key: Tensor) -> Tensor:
        """Return where they are next, `[2]`."""
        walk = self.stride * (action - 1)
        drift = random.uniform(key, (), -self.wander, self.wander)
        return (state + torch.stack([walk, drift])).clamp(-2.0, 2.0)

    def observation(self, state: Tensor, key: Tensor) -> Tensor:
        """Return how far to the right of the cat the sun is, `[1]`."""
        return state[1:] - state[:1]

    def reward(self, state: Tensor, action: Tensor, next_state: Tensor, key: Tensor) -> Tensor:
        """Return 1 in the sun and 0 in the shade, `[]`."""
        return ((next_state[1] - next_state[0]).abs() < self.warm).to(torch.float32)

    def terminal(self, state: Tensor, key: Tensor) -> Tensor:
        """Return that there is always something to look forward to, `[]`."""
        return torch.zeros((), dtype=torch.bool, device=state.device)


Policy = Callable[[Tensor, Tensor], Tensor]


def mean_return(env: SunnySpot, policy: Policy, num_episodes: int = 1000) -> float:
    """Return what a policy `(obs, key) -> action` earns in a day, on average."""
    step = torch.vmap(lambda state, action, key: envs.step(env, state, action, key))
    states = torch.vmap(lambda key: envs.reset(env, key))(random.split(random.key(0), num_episodes))
    for key in random.split(random.key(1), DAY):
        k_action, k_step = random.split(key, 2)
        actions = torch.vmap(policy)(states.obs, random.split(k_action, num_episodes))
        states, row = step(states, actions, random.split(k_step, num_episodes))
    return float(row.episode_return.mean())


def follow(obs: Tensor, key: Tensor) -> Tensor:
    """Walk towards the sun, and stay where a step would lead past it; hardly any cat does better."""
    return 1 + torch.where(obs.abs() > SunnySpot().stride / 2, obs.sign(), 0.0)[0].to(torch.int64)


def day(env: SunnySpot, agent: ppo.State) -> Tensor:
    """Return where a greedy cat and the sun are in each step of a day, `[DAY, 2]`."""
    running = envs.reset(env, random.key(2))
    places = []
    for key in random.split(random.key(3), DAY):
        places.append(running.inner)
        running, _ = envs.step(env, running, ppo.greedy(agent, running.obs), key)
    return torch.stack(places)


def draw(env: SunnySpot, result: Result, references: dict[str, float], path: str) -> None:
    """Draw returns beside those of cats that learn nothing, and a day of the first seed's cat."""
    cat, sun = day(env, tree.index(result.states, 0)).unbind(-1)
    with picture(path, (10.0, 3.6), columns=2) as (left, right):
        draw_statistic(left, result.steps / 1000, result.returns, ops.iqm, "PPO, 8 seeds", "tab:blue")
        for color, (name, mean) in zip(("tab:orange", "0.5"), references.items(), strict=True):
            left.axhline(mean, color=color, linestyle="--", label=name)
        left.set(xlabel="thousands of environment steps", ylabel="hours in the sun, of 50")
        left.legend(frameon=False, loc="center right")
        hours, warm = range(DAY), env.warm
        right.fill_between(hours, sun - warm, sun + warm, color="gold", alpha=0.5, linewidth=0, label="sun")
        right.step(hours, cat, where="post", color="0.2", label="cat")
        right.set(xlabel="step of the day", ylabel="place on the windowsill", ylim=(-2.4, 2.4))
        right.legend(frameon=False, loc="lower right")


def main() -> None:
    """Check the environment, train eight cats, and compare them with two that learn nothing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=81_920, help="environment steps of each of eight seeds")
    parser.add_argument("--backend", default="inductor", help="eager starts at once and is slow")
    parser.add_argument("--out", default="own_environment.png", help="picture to write")
    given = parser.parse_args()

    env = SunnySpot()
    envs.check_env(env)
    config = ppo.Config(learning_rate=2.5e-3, num_envs=8, window_length=64)
    result = train("ppo", env, config=config, seeds=range(8), num_steps=given.steps, backend=given.backend)
    returns = result.final_returns()
    low, high = ops.bootstrap_interval(random.key(0), returns)
    print(f"PPO, interquartile mean of 8 seeds: {ops.iqm(returns):.1f} [{low:.1f}, {high:.1f}]")
    references = {
        "walking towards the sun": mean_return(env, follow),
        "walking at random": mean_return(env, lambda obs, key: random.randint(key, (), 0, 3)),
    }
    for name, mean in references.items():
        print(f"{name + ':':<36}{mean:.1f}")
    draw(env, result, references, given.out)
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
