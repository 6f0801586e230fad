"""Runs in their folders, opened without knowing how they were made."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import safetensors
import torch
from torch import Tensor

from funcrl import envs
from funcrl.core import lanes, random, tree
from funcrl.core.checks import require
from funcrl.io.checkpoint import load
from funcrl.io.folders import START
from funcrl.io.restoring import latest
from funcrl.io.settings import check_is_one_run, read_settings, run_folder, settings_from
from funcrl.io.tables import Table, matrix, read_table, steps_of
from funcrl.train import Plan, make_plan
from funcrl.train.episodes import needs_env_states
from funcrl.train.learnt import Agents, Learnt
from funcrl.train.plan import example_agent, groups_of
from funcrl.train.programs import example_carry
from funcrl.train.resolve import resolve_algorithm, resolve_env
from funcrl.train.result import mean_of_last
from funcrl.train.shards import listed


@dataclasses.dataclass(frozen=True)
class SavedRun:
    """A run that `funcrl train` left in a folder."""

    folder: Path
    settings: dict[str, Any]
    """content of `config.json`"""

    @cached_property
    def algorithm(self) -> ModuleType:
        """What has learnt."""
        return resolve_algorithm("open_run", self.settings["algorithm"])

    @cached_property
    def config(self) -> Any:
        """Its settings, as they were written."""
        return settings_from("open_run", self.algorithm.Config, self.settings["config"])

    @cached_property
    def env(self) -> envs.AnyEnv:
        """The environment that it has learnt in."""
        name, fields = self.settings["environment"], self.settings.get("env", {})
        wrappers = self.settings.get("wrappers", [])
        if not fields and not wrappers:
            return resolve_env("open_run", name)
        return envs.from_words("open_run", name, fields, wrappers)

    @property
    def seeds(self) -> tuple[int, ...]:
        """One a lane, those included that were lost."""
        return tuple(self.settings["seeds"])

    def plan(self, processes: int | None = None) -> Plan:
        """Return the plan that the run follows, with the steps to which it was last continued.

        Args:
            processes: See `train`; as many as before by default.
        """
        plan = make_plan(
            self.algorithm,
            self.env,
            config=self.config,
            seeds=self.seeds,
            num_steps=self.settings["asked_steps"],
            device=self.settings["device"],
            lanes_per_group=self.settings["lanes_per_group"],
            processes=self.settings["processes"] if processes is None else processes,
        )
        steps = self.settings.get("continued_to", plan.num_steps)
        return dataclasses.replace(
            plan,
            num_iterations=steps // plan.steps_per_iteration,
            evaluate_every=int(self.settings.get("evaluate_every", 0)),
            num_episodes=int(self.settings.get("evaluation_episodes", plan.num_episodes)),
        )

    @cached_property
    def learnt(self) -> Learnt | None:
        """What its agents began with, of a run that went on from another one.

        Raises:
            ValueError: When the file is damaged.
        """
        return self.learnt_in(self.folder / START) if self.settings.get("start") else None

    def learnt_in(self, path: Path) -> Learnt:
        """Return what the agents of such a run began with, from a file."""
        agent, env, num = self._new_agent(), self.env, len(self.seeds)
        states: Any = ()
        if needs_env_states(env):
            states = envs.reset_all(lanes.first(env), random.split(random.key(0, "cpu"), 1))
        fields = {name: getattr(agent, name) for name in self.algorithm.LEARNT}
        like = tree.map(lambda x: x.expand(num, *x.shape), Learnt(fields, states))
        return load(path, like)  # type: ignore[no-any-return]

    def _new_agent(self) -> Any:
        plan = self.plan(processes=1)
        spaces: Any = plan.env if isinstance(plan.env, envs.HostEnv) else lanes.Lanes(plan.env).first
        return tree.map(tree.as_tensor, example_agent(self.algorithm, plan.config, spaces))

    @property
    def _final(self) -> Path:
        """The file of the final agents, which is there."""
        path = self.folder / "checkpoint" / "states.safetensors"
        if not path.exists():
            raise FileNotFoundError(
                f"open_run: {path} must be there, but the run has not come to its end. Where nothing trains it "
                f"any more, write funcrl resume {self.folder}."
            )
        return path

    @cached_property
    def agents(self) -> Any:
        """The final agents, lane axis first; without those of seeds that were lost.

        Raises:
            FileNotFoundError: When the run was cut off before its end; `funcrl resume` goes on with it.
            ValueError: When the file is damaged.
        """
        path = self._final
        num = _num_lanes(path)
        return load(path, like=tree.map(lambda x: x.expand(num, *x.shape), self._new_agent()))

    @cached_property
    def kept_seeds(self) -> tuple[int, ...]:
        """Those of the final agents: all but what was lost.

        Raises:
            ValueError: When the file of the agents is damaged.
        """
        path = self._final
        try:
            with safetensors.safe_open(path, "pt") as file:
                text = (file.metadata() or {}).get("seeds")
            return self.seeds if text is None else tuple(int(word) for word in text.split(","))
        except (safetensors.SafetensorError, ValueError) as error:
            raise ValueError(f"open_run: {path} must be a whole safetensors file, got: {error}.") from error

    @cached_property
    def env_states(self) -> Any:
        """Where the environments of all seeds were at the last checkpoint, `[S, N]`, with running moments if any.

        Raises:
            ValueError: When there is no checkpoint.
        """
        plan, found = self.plan(processes=1), latest(self.folder)
        example = example_carry(plan)
        starts = [found.start(group, example) for group in groups_of(plan)]
        there = [start.carry.envs for start in starts if start is not None]
        hold, whole = "hold a checkpoint of all seeds", len(there) == len(starts)
        require(whole, "open_run", str(self.folder), hold, "one of some", "Write funcrl resume.")
        return tree.map(lambda *leaves: torch.cat(leaves), *there)

    def start(self, seeds: Sequence[int] | None = None) -> Agents:
        """Return what `train(start=...)` takes to go on from these agents.

        Args:
            seeds: Of which agents, in the order of the lanes that are to begin with them; None for all.

        Raises:
            ValueError: When the run has no agent of such a seed.
        """
        seeds = self.kept_seeds if seeds is None else seeds
        unknown = [seed for seed in seeds if seed not in self.kept_seeds]
        instead = f"It has {listed(self.kept_seeds)}."
        require(not unknown, "start", "seeds", "be those of the run's agents", unknown, instead)
        places = [self.kept_seeds.index(seed) for seed in seeds]
        chosen = torch.tensor(places, dtype=torch.int64, device="cpu")
        known: Any = None
        if needs_env_states(self.env):
            lanes_of_seeds = [self.seeds.index(seed) for seed in seeds]
            which = torch.tensor(lanes_of_seeds, dtype=torch.int64, device="cpu")
            known = tree.index(self.env_states, which)
        return Agents(tree.index(self.agents, chosen), known)

    @cached_property
    def table(self) -> Table:
        """`metrics.csv` as columns of numpy, one row a seed and iteration: seed, step, return, episodes, metrics."""
        return read_table(self.folder / "metrics.csv", "seed", self.seeds)

    @property
    def steps(self) -> Tensor:
        """`[I]` environment steps of a lane after each iteration."""
        return steps_of(self.table)

    @property
    def returns(self) -> Tensor:
        """`[S, I]` as `Result.returns`; NaN for what a seed did not reach."""
        return self.metric("return")

    def metric(self, name: str) -> Tensor:
        """Return one figure of all seeds, `[S, I]`; NaN for what a seed did not reach.

        Args:
            name: A column of `metrics.csv`.
        """
        require(name in self.table, "metric", "name", f"be one of {', '.join(self.table)}", name)
        return matrix(self.table, "seed", self.seeds, name)

    def final_returns(self, episodes: int = 100) -> Tensor:
        """Return each seed's mean return over its last episodes, `[S]`, as `Result.final_returns`.

        Args:
            episodes: Number of episodes to look back over.
        """
        return mean_of_last(self.returns, self.metric("episodes"), episodes)

    @property
    def metrics(self) -> Any:
        """`metrics.csv` as a pandas DataFrame, or as a dict of columns where pandas is not installed."""
        try:
            import pandas  # type: ignore[import-untyped]
        except ModuleNotFoundError:
            return dict(self.table)
        return pandas.DataFrame(self.table)


def _num_lanes(path: Path) -> int:
    try:
        with safetensors.safe_open(path, "pt") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ValueError(f"open_run: {path} must be a whole safetensors file, got: {error}.") from error
    counts = {shape[0] for shape in shapes if shape}
    require(len(counts) == 1, "open_run", str(path), "hold as many lanes in each tensor", sorted(counts))
    return int(counts.pop())


def open_run(folder: str | Path) -> SavedRun:
    """Open the folder of a run.

    Args:
        folder: What `funcrl train` left: `"runs/ppo-CartPole-v1"`.

    Returns:
        Settings, environment, agents and figures of the run.

    Raises:
        FileNotFoundError: When there is no such folder, or no run in it.
        ValueError: When `config.json` is damaged.
    """
    if not isinstance(folder, (str, Path)):
        raise TypeError(f"open_run: folder must be a path, got {folder!r}.")
    folder = run_folder(Path(folder))
    settings = read_settings(folder)
    check_is_one_run("open_run", folder, settings)
    return SavedRun(folder, settings)
