"""How much DQN believes it can win where nothing can be won, and what Double DQN makes of it.

python examples/overestimation.py [--seeds 100] [--steps 40000] [--out overestimation.png]

A gambler may walk past five tables on the way home. Every bet costs a tenth of the stake on average,
so the best is to go home at once: V*(start) = 0, which planning confirms. DQN's target takes the
largest of ten noisy estimates at the next table, which is too large on average, and hands it on to the
table before, where the same happens again (Thrun & Schwartz 1993; Sutton & Barto 2018, example 6.7,
has one table). Double DQN chooses with one network and believes the other (van Hasselt et al. 2016).

Both learn from the same experience, bit for bit: what explores is chance alone. The replay buffer
forgets sooner than the target network is renewed, so that the two networks have seen other bets; with
`target_period=20` they share their errors, and Double DQN is nearly as wrong as DQN. What is left of
its bias is in the reading, the largest of eleven estimates: it is there at the last table too, from
which nothing is handed on.
"""

from __future__ import annotations

import argparse
from types import ModuleType

import torch
from gymnasium import spaces
from torch import Tensor

from funcrl import envs, nets, ops
from funcrl.algos import double_dqn, dqn, planning
from funcrl.core import random, tree
from funcrl.envs import tabular
from funcrl.envs.tabular import Outcomes, Place
from funcrl.io import picture
from funcrl.train import Run, Solution, solve

NAMES = {dqn: "DQN", double_dqn: "Double DQN"}
SETTINGS = {
    "gamma": 1.0,
    "learning_rate": 1e-2,
    "initial_epsilon": 1.0,
    "epsilon": 1.0,
    "num_envs": 4,
    "window_length": 8,
    "updates_per_window": 4,
    "warmup_steps": 64,
    "batch_size": 32,
    "buffer_size": 512,
    # 200 gradient steps are 1600 steps of the environments: three times what the buffer remembers.
    "target_period": 200,
    "hidden": (32,),
    "activation": "tanh",
}
STEPS_PER_POINT = 512


@tree.struct
class Casino:
    """Some tables on the way home, at each of which one may bet on one of several numbers.

    State: a `Place`, the table from 0 (where every episode begins) to `num_tables` (home, where it
    terminates), and what the last bet paid. The observation is the number of the table. Action 0 goes
    home and pays nothing; each other one bets, wins or loses the stake with probability one half, pays
    the edge in either case, and walks on to the next table.
    """

    edge: float = 0.1
    """what a bet costs on average"""
    stake: float = 1.0
    """what a bet wins or loses"""
    num_tables: int = tree.static(default=5)
    num_bets: int = tree.static(default=10)
    max_episode_steps: int | None = tree.static(default=None)

    @property
    def num_states(self) -> int:
        """Number of tables, and home."""
        return self.num_tables + 1

    @property
    def observation_space(self) -> spaces.Discrete:
        """The number of the table."""
        return tabular.discrete(self.num_states)

    @property
    def action_space(self) -> spaces.Discrete:
        """0 goes home, the others bet."""
        return tabular.discrete(self.num_bets + 1)

    def initial_distribution(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the probability of each table at the beginning, `[S]`: 1 for the first."""
        return (torch.arange(self.num_states) == 0).to(dtype)

    def outcomes(self, position: Tensor, action: Tensor, dtype: torch.dtype = torch.float32) -> Outcomes:
        """Return what may follow: losing and winning, `[2]`. Planning reads the same list."""
        bets = (action > 0) & (position < self.num_tables)
        follows = torch.where(bets, position + 1, self.num_tables).expand(2)
        edge, stake = (tabular.number(x, dtype, position.device) for x in (self.edge, self.stake))
        wins = torch.arange(2, device=position.device) == 1
        return Outcomes(
            probability=torch.full((2,), 0.5, dtype=dtype, device=position.device),
            position=follows,
            reward=torch.where(bets, torch.where(wins, stake, -stake) - edge, 0.0),
            terminated=follows == self.num_tables,
        )

    def initial(self, key: Tensor) -> Place:
        """Return the first table; the key is not used."""
        return tabular.begin(torch.zeros((), dtype=torch.int64, device=key.device))

    def transition(self, state: Place, action: Tensor, key: Tensor) -> Place:
        """Return the state that follows, one of `outcomes`."""
        return tabular.draw(key, self.outcomes(state.position, action))

    def observation(self, state: Place, key: Tensor) -> Tensor:
        """Return the number of the table, `[]` int64."""
        return state.position

    def reward(self, state: Place, action: Tensor, next_state: Place, key: Tensor) -> Tensor:
        """Return what the bet paid, `[]` float32."""
        return next_state.reward

    def terminal(self, state: Place, key: Tensor) -> Tensor:
        """Return whether the gambler is at home, `[]` boolean."""
        return state.terminated


def learn(algorithm: ModuleType, seeds: int, steps: int, backend: str) -> tuple[Tensor, Tensor]:
    """Return the steps so far, `[I]`, and Q of every action at every table then, `[I, S, tables, A]`."""
    env = Casino()
    size = SETTINGS["num_envs"] * SETTINGS["window_length"]
    run = Run(
        algorithm,
        envs.OneHotObservation(env),
        algorithm.Config(**SETTINGS),
        range(seeds),
        backend=backend,
        num_cycles=max(1, min(STEPS_PER_POINT, steps) // size),
    )
    tables = torch.eye(env.num_states)[: env.num_tables]
    network, points = run.agent.network, []
    for _ in range(max(1, steps // run.steps_per_iteration)):
        run.iterate()
        points.append(torch.vmap(nets.apply, in_dims=(None, 0, None))(network, run.agent.params, tables))
    return run.steps_per_iteration * torch.arange(1, len(points) + 1), torch.stack(points)


def interval(lanes: Tensor) -> tuple[Tensor, Tensor]:
    """Return a 95 % interval of the mean over seeds, which come first."""
    return ops.bootstrap_interval(random.key(0), lanes, num_resamples=1000, statistic=ops.mean)


def draw(path: str, steps: Tensor, learnt: dict[ModuleType, Tensor], truth: Solution) -> None:
    """Draw the estimate at the first table while learning, and at each table in the second half."""
    with picture(path, (13.0, 5.0), columns=2) as (left, right):
        for algorithm, values in learnt.items():
            largest = values.amax(dim=-1).transpose(0, 1)
            at_start, late = largest[:, :, 0], largest[:, largest.shape[1] // 2 :].mean(dim=1)
            tables = torch.arange(1, late.shape[1] + 1)
            for ax, x, lanes, marker in ((left, steps, at_start, None), (right, tables, late, "o")):
                low, high = interval(lanes)
                (line,) = ax.plot(x, lanes.mean(0), linewidth=2.0, marker=marker, label=NAMES[algorithm])
                ax.fill_between(x, low, high, color=line.get_color(), alpha=0.25, linewidth=0)
        true = truth.values[0, : len(tables)]
        for ax, x, exact in ((left, steps, true[:1].expand(len(steps))), (right, tables, true)):
            ax.plot(x, exact, color="0.3", linestyle="--", linewidth=1.4, label="truth, by planning")
            ax.grid(axis="y", color="0.9")
        left.set_title("maxₐ Q(first table, a) while learning", loc="left", fontweight="bold")
        left.set_xlabel("environment steps of each seed")
        left.set_ylabel(f"estimated winnings, mean of {values.shape[1]} seeds and 95 % interval")
        right.set_title("maxₐ Q(table, a), second half of the run", loc="left", fontweight="bold")
        right.set_xlabel("table")
        right.set_xticks(tables.tolist())
        left.legend(frameon=False)


def main() -> None:
    """Learn with both, print how far off they are, and draw it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=100, help="lanes of each algorithm")
    parser.add_argument("--steps", type=int, default=40_000, help="environment steps of each seed")
    parser.add_argument("--out", default="overestimation.png", help="picture to write")
    parser.add_argument("--backend", default="inductor", help="eager starts at once and is slow")
    given = parser.parse_args()

    planner = planning.value_iteration.Config(gamma=SETTINGS["gamma"])
    truth = solve("value_iteration", Casino(), config=planner)
    home, bet = truth.action_values[0, 0, :2].tolist()
    print(f"Q* at the first table: {home:.3f} for going home, {bet:.3f} for any bet")
    learnt = {}
    for algorithm, name in NAMES.items():
        steps, values = learn(algorithm, given.seeds, given.steps, given.backend)
        learnt[algorithm] = values
        late = values[len(values) // 2 :, :, 0]
        bias = late.amax(dim=-1).mean(dim=0) - home
        low, high = interval(bias)
        stays = (late.argmax(dim=-1) > 0).float().mean()
        print(
            f"{name:<11} bias of max Q at the first table, second half of the run: {float(bias.mean()):.3f} "
            f"[{float(low):.3f}, {float(high):.3f}]; would rather bet than go home: {float(stays):.0%}"
        )
    draw(given.out, steps, learnt, truth)
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
