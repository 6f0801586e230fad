"""What the loops share that act for a while with one and the same agent before they learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from funcrl import envs
from funcrl.core import jit, lanes, random
from funcrl.envs.host_vector import HostVector
from funcrl.train.collect import Collector, Window
from funcrl.train.host_collect import HostCollector
from funcrl.train.run import Carry, Run


class WindowRun(Run):
    """Training that collects windows of experience, on the device or from environments on the host."""

    collector: Collector | HostCollector | None = None

    def restart(self, seeds: Sequence[int], config: Any = None, env: Any = None) -> None:
        """Put other lanes, as many as before, in the place of these; nothing is compiled again."""
        super().restart(seeds, config, env)
        if isinstance(self.collector, HostCollector):
            self.collector.reset(self._seeds)

    def restore(self, carry: Carry) -> None:
        """Continue from a `carry` that was taken before; environments on the host begin new episodes."""
        super().restore(carry)
        if isinstance(self.env, envs.HostEnv):
            self.compile()
            assert isinstance(self.collector, HostCollector)
            # Not the episodes of before once more.
            self.collector.reset([_later(seed, int(carry.iteration[0])) for seed in self._seeds])

    def reopen(self) -> None:
        """Make environments on the host anew, for a process that inherited those of another by a fork.

        Those of before are kept out of use, not closed: their processes and pipes are the other's.
        """
        if isinstance(self.collector, HostCollector):
            self._inherited = self.collector.env
            self.collector.env = HostVector(self.env, len(self._seeds), self.config.num_envs)  # type: ignore[arg-type]

    def close(self) -> None:
        """End environments on the host, and their processes; nothing to do for those on the device."""
        if isinstance(self.collector, HostCollector):
            self.collector.env.close()

    def _collecting(self, count: Tensor) -> tuple[Window, list[Callable[[], Any]], Callable[[], Any] | None]:
        """Compile what collects a window, collection i with the key of number `count` = i.

        Returns:
            The window `[T, S, N]`, the row of bound calls that fills it, and for environments on the
            host the function that does it instead.
        """
        carry, length = self._carry, self.config.window_length
        if isinstance(self.env, envs.HostEnv):
            world = HostVector(self.env, len(self._seeds), self.config.num_envs)
            of_carry = (carry.agent, carry.collect_key, count)
            on_host = HostCollector(self.algorithm.act, world, *of_carry, length, self.backend)
            on_host.reset(self._seeds)
            # Known from here on, so that `close` ends the environments whatever happens while compiling.
            self.collector = on_host
            return on_host.window, [], on_host
        assert isinstance(carry.envs, envs.EnvState)
        self.collector = Collector(
            self.algorithm.act,
            lanes.Lanes(self.env),
            carry.env_values,
            carry.agent,
            carry.envs,
            carry.collect_key,
            count,
            length,
            self.backend,
        )
        return self.collector.window, self.collector.calls, None

    def _row(
        self, collect: Callable[[], Any] | None, calls: Sequence[Callable[[], Any]]
    ) -> Callable[[], None]:
        """Return a function that collects on the host, where that is to be done, and makes a row of calls."""
        captured = jit.capture(calls, self._carry, self.device)
        if collect is None:
            return captured
        on_host = collect

        def run() -> None:
            on_host()
            captured()

        return run


def _later(seed: int, iteration: int) -> int:
    """Return a seed for the episodes that begin after an iteration.

    >>> _later(0, 5) == _later(0, 5), _later(0, 5) == _later(0, 6)
    (True, False)
    """
    first, second = random.fold_in(random.key(seed, "cpu"), iteration).tolist()
    return int((first % 2**32) << 32 | second % 2**32)
