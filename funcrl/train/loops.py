"""The loops by name, and what each of them says of itself."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Protocol, cast

from funcrl import envs
from funcrl.core import checks
from funcrl.train import off_policy, on_policy, online
from funcrl.train.stages import Binding, Stage


class Loop(Protocol):
    """A kind of training, as a module.

    An iteration is what lies between two reports; it acts and learns in a number of cycles.
    """

    CYCLE: str
    """what a cycle is made of, in environment steps"""

    def check(self, function: str, env: envs.AnyEnv, config: Any, num_steps: int | None = None) -> None:
        """Raise a `ValueError` where this loop cannot train in such an environment, or for so many steps."""

    def steps_per_cycle(self, config: Any) -> int:
        """Return the environment steps of one lane in a cycle."""

    def cycles_per_iteration(self, config: Any, num_steps: int) -> int:
        """Return the cycles of an iteration, in a run of so many steps of each lane."""

    def memory_bytes(self, env: envs.AnyEnv, config: Any) -> int:
        """Return how many bytes `memory` takes in each lane, where that is much."""

    def memory(self, agent: Any, spaces: Any) -> Any:
        """Return what one lane remembers at the beginning, beside agent and environments.

        Args:
            agent: `[]` the algorithm's state.
            spaces: Anything with the environment's `observation_space` and `action_space`.
        """

    def stages(self, binding: Binding) -> list[Stage]:
        """Compile everything and return one iteration: what is called, in turn, to change the carry in place."""


LOOPS: dict[str, Loop] = {
    "on_policy": cast(Loop, on_policy),
    "off_policy": cast(Loop, off_policy),
    "online": cast(Loop, online),
}
"""What an algorithm may call its `LOOP`."""


def loop_of(algorithm: ModuleType) -> Loop:
    """Return the loop that an algorithm asks for.

    Raises:
        ValueError: When it names none of them.
        AttributeError: When it names nothing.
    """
    checks.known("train", "algorithm.LOOP", algorithm.LOOP, LOOPS)
    return LOOPS[algorithm.LOOP]
