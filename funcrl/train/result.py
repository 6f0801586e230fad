"""What training returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from funcrl.core import tree
from funcrl.core.checks import require


@dataclass(frozen=True)
class Result:
    """The lanes of one training run, on the CPU but for `states`.

    S lanes, I iterations. Where a run was stopped early, what was not reached is NaN.
    """

    seeds: tuple[int, ...]
    """`S` seeds, in the order of the lanes"""
    states: Any
    """final states of the algorithm, lane axis first"""
    env_states: Any
    """`[S, N]` where the environments were left, with running moments if any; `()` for host ones"""
    returns: Tensor
    """`[S, I]` mean return of the episodes that ended in each iteration, the last value where none
    ended, NaN before the first"""
    episodes: Tensor
    """`[S, I]` number of episodes that ended in each iteration"""
    metrics: dict[str, Tensor]
    """`[S, I]` each: the algorithm's figures after each iteration's last update"""
    steps: Tensor
    """`[I]` environment steps per lane so far"""
    compile_seconds: float
    """time until the first iteration: tracing, compiling, or reading compiled programs"""
    run_seconds: float
    """time of all iterations on the clock of this process, learning and callbacks included"""
    timed_steps: int
    """environment steps of all lanes in that time"""
    environment_seconds: float
    """how much of it a process waited for steps of environments on the host, the mean of all processes"""
    placement: str
    """where the environments ran: `"device"`, or `"host"` for Gymnasium's through the bridge"""
    lanes: tuple[int, ...] = ()
    """`S`, for each seed its place among those that were asked for"""
    lost_seeds: tuple[int, ...] = ()
    """seeds whose process died before they were through: they are in none of the other fields"""

    @property
    def steps_per_second(self) -> float:
        """Environment steps of all lanes together, learning included and compiling not."""
        return self.timed_steps / self.run_seconds if self.timed_steps else 0.0

    def final_returns(self, episodes: int = 100) -> Tensor:
        """Return each lane's mean return over its last episodes.

        The last 100 training episodes are what CleanRL's tables report. Whole iterations are taken,
        the fewest that hold that many episodes.

        Args:
            episodes: Number of episodes to look back over, at least 1.

        Returns:
            `[S]`, NaN for a lane in which no episode ended, or where one of these earned NaN.
        """
        require(episodes >= 1, "Result.final_returns", "episodes", "be at least 1", episodes)
        return mean_of_last(self.returns, self.episodes, episodes)

    def of(self, places: Sequence[int]) -> Result:
        """Return the part of some seeds, without those that were lost.

        Args:
            places: Of these seeds among those that were asked for.
        """
        rows = [row for row, lane in enumerate(self.lanes) if lane in set(places)]
        index = torch.tensor(rows, dtype=torch.int64, device="cpu")
        there = {self.lanes[row] for row in rows}
        share = len(rows) / max(len(self.lanes), 1)
        return replace(
            self,
            seeds=tuple(self.seeds[row] for row in rows),
            lanes=tuple(place for place in range(len(places)) if places[place] in there),
            states=tree.map(lambda x: x[index.to(x.device)], self.states),
            env_states=tree.map(lambda x: x[index.to(x.device)], self.env_states),
            returns=self.returns[index],
            episodes=self.episodes[index],
            metrics={name: values[index] for name, values in self.metrics.items()},
            timed_steps=round(self.timed_steps * share),
            lost_seeds=(),
        )

    @property
    def nonfinite_seeds(self) -> list[int]:
        """Seeds of the lanes whose states hold an infinity or a NaN, or an episode of which earned one."""
        earned = (self.episodes > 0) & ~self.returns.isfinite()
        each = zip(self.seeds, finite_lanes(self.states), earned.any(1).tolist(), strict=True)
        return [seed for seed, fine, bad in each if bad or not fine]


def mean_of_last(returns: Tensor, counts: Tensor, episodes: int) -> Tensor:
    """Return each lane's mean return over its last episodes, see `Result.final_returns`.

    Args:
        returns: `[S, I]` mean return of the episodes that ended in each iteration.
        counts: `[S, I]` number of them; NaN in iterations that there were not.
        episodes: Number of episodes to look back over.
    """
    counts = counts.nan_to_num(0.0)
    after = counts.flip(1).cumsum(1).flip(1) - counts
    weight = counts * (after < episodes)
    # Where nothing ended the weight is 0 and the return may be NaN; a NaN that was earned stays.
    return torch.where(weight > 0, weight * returns, 0.0).sum(1) / weight.sum(1)


def finite_lanes(states: Any) -> list[bool]:
    """Return for each lane whether all its learned numbers are finite.

    Settings may be infinite and metrics NaN, so the fields `config` and `metrics` do not count.

    Args:
        states: States of an algorithm, lane axis first.

    Returns:
        `S` booleans.
    """
    fine = None
    for name, leaf in tree.named_leaves(states).items():
        if leaf.is_floating_point() and not name.startswith((".config", ".metrics")):
            lanes = leaf.flatten(1).isfinite().all(1) if leaf.ndim > 1 else leaf.isfinite()
            fine = lanes if fine is None else fine & lanes
    return [] if fine is None else fine.tolist()


def concatenate(results: list[Result]) -> Result:
    """Put groups of lanes that ran one after the other together, NaN where a group was cut short."""
    if len(results) == 1:
        return results[0]
    longest = max(results, key=lambda result: len(result.steps))
    num_iterations = len(longest.steps)

    def pad(rows: Tensor) -> Tensor:
        return torch.nn.functional.pad(rows, (0, num_iterations - rows.shape[1]), value=torch.nan)

    return Result(
        seeds=sum((result.seeds for result in results), ()),
        lanes=sum((result.lanes for result in results), ()),
        states=tree.map(lambda *leaves: torch.cat(leaves), *(result.states for result in results)),
        env_states=tree.map(lambda *leaves: torch.cat(leaves), *(result.env_states for result in results)),
        returns=torch.cat([pad(result.returns) for result in results]),
        episodes=torch.cat([pad(result.episodes) for result in results]),
        metrics={
            name: torch.cat([pad(result.metrics[name]) for result in results]) for name in longest.metrics
        },
        steps=longest.steps,
        compile_seconds=sum(result.compile_seconds for result in results),
        run_seconds=sum(result.run_seconds for result in results),
        timed_steps=sum(result.timed_steps for result in results),
        environment_seconds=sum(result.environment_seconds for result in results),
        placement=longest.placement,
    )
