"""The Gymnasium face: many environments on a device behind `gymnasium.vector.VectorEnv`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from funcrl.core import checks, jit, lanes, random, tree
from funcrl.core.checks import require
from funcrl.envs import beginnings
from funcrl.envs.actions import as_numbers, check_actions
from funcrl.envs.autoreset import Stepping, VectorState, owned, unrolled
from funcrl.envs.drawing import Frame, check_mode, metadata
from funcrl.envs.registry import make_for_gymnasium
from funcrl.envs.stepping import Env

EPISODES_AT_A_TIME = 20
"""One N-th of the environments begin an episode in one call of a program, on a CPU."""

_Beginning = tuple[list[Tensor], Callable[..., VectorState], Callable[..., VectorState]]
"""numbers in which environments differ, what begins streams with them, and what begins episodes"""


class TorchVectorEnv(VectorEnv):
    """N environments that take and return torch tensors on their device.

    What follows the end of an episode is decided by `autoreset_mode`, with the meanings that
    Gymnasium gives them:

    - `SAME_STEP` (the default): the next episode begins in the same step. `infos["final_obs"]`
      holds what each step truly led to and `infos["final_info"]` the infos of then;
      `infos["_final_obs"]` and `infos["_final_info"]` say where an episode ended.
    - `NEXT_STEP`: the next step ignores the action, pays 0 and returns the first observation.
    - `DISABLED`: nothing, until `reset(options={"reset_mask": ...})` names the environments.

    `infos` has the keys that Gymnasium's `SyncVectorEnv` gives, each with a mask `_key` of the
    environments that have it. Unlike there, all of them are full tensors that are there at every
    step, because asking whether any episode ended would wait for the device; outside of its mask
    `episode_return` is that of the episode which ended, rather than 0.

    It can be pickled and copied, in the middle of an episode too, and goes on there as here.
    """

    def __init__(
        self,
        env: Env,
        num_envs: int,
        device: torch.device | str = "cpu",
        backend: str = "inductor",
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
    ) -> None:
        """Make the environments; the step is compiled when it is first taken.

        Args:
            env: What to run. A float field that holds N numbers holds one an environment.
            num_envs: N.
            device: Where tensors live.
            backend: See `jit`.
            autoreset_mode: One of Gymnasium's three.
            render_mode: `"rgb_array"` or None.

        Raises:
            ValueError: When an argument has a value that cannot be.
        """
        checks.integer("make_vec", "num_envs", num_envs, 1)
        self.name = type(env).__name__
        self.num_envs = num_envs
        self.device = checks.device("make_vec", device)
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        check_mode("make_vec", env, render_mode)
        self.render_mode = render_mode
        self.metadata = {"autoreset_mode": self.autoreset_mode, **metadata(env)}
        self._lanes = lanes.Lanes(lanes.spread("make_vec", self.name, env, num_envs))
        self._values = [column.to(self.device) for column in self._lanes.values]
        self.env: Env = self._lanes.first
        self.single_observation_space = self.env.observation_space
        self.single_action_space = self.env.action_space
        whole = not isinstance(self.single_action_space, (spaces.Tuple, spaces.Dict))
        instead = "funcrl.train and envs.step_all take such actions."
        require(whole, "make_vec", "actions", "be one array", self.single_action_space, instead)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._state: VectorState | None = None
        self._stepping = Stepping(self._lanes)
        self._backend = backend
        self._make_programs()

    def _make_programs(self) -> None:
        stepping, backend = self._stepping, self._backend
        whole = {
            AutoresetMode.SAME_STEP: stepping.same_step,
            AutoresetMode.NEXT_STEP: stepping.next_step,
            AutoresetMode.DISABLED: stepping.plain_step,
        }[self.autoreset_mode]
        self._step, self._begin = jit.jit(whole, backend=backend), None
        if self.device.type == "cpu" and self.autoreset_mode != AutoresetMode.DISABLED:
            # Here asking which episodes ended costs nothing, and beginning only those a small part of
            # beginning them all; on a GPU it is the other way round.
            only: Any
            begin: Any
            only, begin = {
                AutoresetMode.SAME_STEP: (stepping.last_step, stepping.begin_here),
                AutoresetMode.NEXT_STEP: (stepping.idle_step, stepping.begin_instead),
            }[self.autoreset_mode]
            self._step = jit.jit(lambda *arguments: owned(only, *arguments), backend=backend)
            self._begin = jit.jit(begin, donate=(0,), backend=backend)
        self._unroll = jit.jit(lambda *arguments: unrolled(whole, *arguments), backend=backend)
        self._restart = jit.jit(stepping.restart_some, backend=backend)

    def __getstate__(self) -> dict[str, Any]:
        """Return all but the compiled programs, which belong to a process; a copy makes its own."""
        programs = ("_step", "_begin", "_unroll", "_restart")
        return {name: value for name, value in self.__dict__.items() if name not in programs}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_programs()

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in every environment, or in those of a mask.

        Environment i has a random stream of its own. An integer seed gives different streams to
        all; unlike Gymnasium's `seed + i`, neighbouring seeds then share none. The first N streams
        do not depend on how many environments there are.

        Args:
            seed: Decides everything that follows; a list has one seed (or None) an environment.
                Where there is no seed the stream goes on, or begins from fresh entropy.
            options: `{"reset_mask": mask}` with `[N]` booleans, of numpy or torch, resets only some.
                Where Gymnasium's own environment knows them, numbers that say in what range the episodes
                of this reset start (later ones start as ever): `low` and `high`, or Pendulum's `x_init`
                and `y_init`.

        Returns:
            `[N, ...]` observations of all environments, and an empty dict.

        Raises:
            TypeError: When a seed is not an integer or the mask not boolean.
            ValueError: When seeds or mask have another length, another option or an impossible number
                is given, or the environment is closed.
        """
        self._require_open("reset")
        beginning = self._beginning(options)
        mask = beginnings.mask(f"{self.name}.reset", options, self.num_envs, self.device)
        if mask is not None:
            require(self._state is not None, f"{self.name}.reset", "all environments", "be reset first", None)
        keys = self._seeded_keys(seed)
        state = self._state
        if state is not None and mask is None and all(key is None for key in keys):
            mask = torch.ones(self.num_envs, dtype=torch.bool, device=self.device)
        if state is None or any(key is not None for key in keys):
            state = self._seeded(state, keys, mask, beginning)
        else:
            values, _, restart = beginning
            state = restart(values, state, mask)
        self._state = state
        return tree.map(torch.clone, state.envs.obs), {}

    def _seeded_keys(self, seed: Any) -> list[Tensor | None]:
        """Return a fresh key for each environment that is to get one."""
        seed = seed.tolist() if isinstance(seed, (Tensor, np.ndarray)) else seed
        if isinstance(seed, (list, tuple, range)):
            length = len(seed)
            require(
                length == self.num_envs, f"{self.name}.reset", "seed", f"hold {self.num_envs} seeds", length
            )
            return [None if s is None else random.split(random.key(s, "cpu"), 1)[0] for s in seed]
        if seed is None and self._state is not None:
            return [None] * self.num_envs
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
        return list(random.split(random.key(seed, "cpu"), self.num_envs))

    def _seeded(
        self, state: VectorState | None, keys: list[Tensor | None], mask: Tensor | None, beginning: _Beginning
    ) -> VectorState:
        """Begin the streams that have a new key, and an episode in every environment of the mask."""
        if state is None and any(key is None for key in keys):
            entropy = np.random.SeedSequence().generate_state(len(keys), np.uint64)
            keys = [random.key(int(e), "cpu") if k is None else k for k, e in zip(keys, entropy, strict=True)]
        given = torch.tensor([key is not None for key in keys], dtype=torch.bool, device=self.device)
        zeros = torch.zeros(2, dtype=torch.int32, device="cpu")
        new = torch.stack([zeros if key is None else key for key in keys]).to(self.device)
        values, begin, restart = beginning
        begun = begin(values, new)
        if state is None or (mask is None and all(key is not None for key in keys)):
            return begun
        chosen = torch.ones_like(given) if mask is None else mask
        state = restart(values, state, chosen & ~given)
        return tree.where(chosen & given, begun, state)

    def _beginning(self, options: dict[str, Any] | None) -> _Beginning:
        """Return what begins streams and episodes as the options of a reset say."""
        function = f"{self.name}.reset"
        env = beginnings.starting(function, self._lanes.one(self._lanes.values), options)
        if env is None:
            return self._values, self._stepping.begin, self._restart
        here = lanes.Lanes(lanes.spread(function, self.name, env, self.num_envs))
        # Not compiled, because every other number would be compiled again.
        stepping = Stepping(here)
        return [column.to(self.device) for column in here.values], stepping.begin, stepping.restart_some

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Take one step everywhere.

        Integer actions are checked on the CPU; on a GPU that would wait for the device. Real ones may lie
        beyond the bounds of the space: as in Gymnasium, the environment clips them.

        Args:
            actions: `[N, ...]` in the action space: a tensor, or anything `torch.as_tensor` takes.

        Returns:
            Observations `[N, ...]`, rewards `[N]` float32, terminations `[N]`, truncations `[N]`,
            and infos with `episode_return` and `episode_length` `[N]`, and in SAME_STEP mode
            `final_obs` and `final_info`, all with masks `[N]`.

        Raises:
            TypeError: When the actions are not numbers.
            ValueError: When their dtype, shape or values are wrong, before `reset`, after `close`, or when an
                episode is over that nobody reset.
        """
        here = f"{self.name}.step"
        state = self._begun("step")
        actions = check_actions(here, self.single_action_space, actions, self.num_envs, self.device)
        if self.autoreset_mode == AutoresetMode.DISABLED:
            over = state.ended.nonzero().flatten().tolist()
            require(
                not over,
                here,
                "every episode that is over",
                "be reset before the next step",
                over,
                "Write env.reset(options={'reset_mask': terminated | truncated}).",
            )
        after, outputs, infos = self._step(self._values, state, actions)
        if self._begin is not None:
            same_step = self.autoreset_mode == AutoresetMode.SAME_STEP
            begins = after.ended if same_step else state.ended
            after = self._begin_episodes(after, state, begins)
            outputs = (after.envs.obs, *outputs[1:])
        self._state = after
        # What is handed out may be changed by whoever gets it; the state must not be.
        return (tree.map(torch.clone, outputs[0]), *outputs[1:], infos)

    def _begin_episodes(self, after: VectorState, before: VectorState, where: Tensor) -> VectorState:
        """Begin an episode in the environments of a mask, as many at a time as the program is made for."""
        assert self._begin is not None
        size = max(1, self.num_envs // EPISODES_AT_A_TIME)
        sources = () if self.autoreset_mode == AutoresetMode.SAME_STEP else (before,)
        index = where.nonzero().flatten()
        for begin in range(0, len(index), size):
            some = index[begin : begin + size]
            # The last few are filled up with one of them again, which changes nothing.
            filled = torch.cat([some, some[:1].expand(size - len(some))]) if len(some) < size else some
            after = self._begin(after, *sources, self._values, filled)
        return after

    def unroll(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Take T steps in one compiled call: what T calls of `step` return, stacked.

        Faster than single calls, because nothing waits for Python in between. The program is
        compiled once for each T and its size grows with T: 4 to 8 steps are a good chunk.

        Args:
            actions: `[T, N, ...]`.

        Returns:
            As `step`, each with an axis T in front.

        Raises:
            ValueError: As `step`; and in DISABLED mode, where resets come from outside.
        """
        here = f"{self.name}.unroll"
        state = self._begun("unroll")
        enabled = self.autoreset_mode != AutoresetMode.DISABLED
        require(enabled, here, "autoreset_mode", "be SameStep or NextStep", self.autoreset_mode.value)
        try:
            actions = as_numbers(actions, self.device)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"{here}: actions must be a tensor or an array, got {actions!r}.") from None
        hold = f"have shape (T, {self.num_envs}, ...) with T at least 1"
        require(actions.ndim > 1 and len(actions) > 0, here, "actions", hold, tuple(actions.shape))
        space = self.single_action_space
        rows = [check_actions(here, space, row, self.num_envs, self.device) for row in actions]
        self._state, outputs, infos = self._unroll(self._values, state, torch.stack(rows))
        return (*outputs, infos)

    def render(self) -> tuple[Frame, ...] | None:
        """Return a picture of each environment, `[H, W, 3]` uint8, where `render_mode` asks for it.

        Raises:
            ValueError: Before `reset`, or after `close`.
        """
        state = self._begun("render")
        if self.render_mode is None:
            return None
        inner = tree.map(lambda x: x.cpu(), state.envs.inner)
        values = [column.cpu() for column in self._values]
        pictures = []
        for i in range(self.num_envs):
            env: Any = self._lanes.one([float(column[i]) for column in values])
            pictures.append(env.render(tree.index(inner, i)))
        return tuple(pictures)

    def _begun(self, method: str) -> VectorState:
        """Return the state, if there is one and it may be used."""
        self._require_open(method)
        instead = "Write env.reset(seed=0)."
        begun = self._state is not None
        require(begun, f"{self.name}.{method}", "the environment", "be reset first", None, instead)
        assert self._state is not None
        return self._state

    def _require_open(self, method: str) -> None:
        require(not self.closed, f"{self.name}.{method}", "the environment", "be open", "a closed one")


def _autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    names = [known.value for known in AutoresetMode]
    if not isinstance(mode, AutoresetMode):
        by_name = {known.value: known for known in AutoresetMode} | {
            known.name: known for known in AutoresetMode
        }
        known = isinstance(mode, str) and mode in by_name
        require(known, "make_vec", "autoreset_mode", f"be one of {', '.join(names)}", mode)
        mode = by_name[mode]
    return mode


def make_vector(
    name: str,
    num_envs: int = 1,
    device: torch.device | str = "cpu",
    backend: str = "inductor",
    autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
    render_mode: str | None = None,
    **params: Any,
) -> TorchVectorEnv:
    """Entry point of `gymnasium.make_vec("funcrl/<name>", num_envs=..., device=...)`.

    Args:
        name: Name in `envs.REGISTRY`.
        num_envs: N.
        device: Where tensors live.
        backend: See `jit`.
        autoreset_mode: See `TorchVectorEnv`.
        render_mode: `"rgb_array"` or None.
        **params: Fields of the environment to change; a float may be a list with N numbers.

    Raises:
        TypeError: When a keyword is unknown.

    >>> make_vector("CartPole-v1", num_envs=3, backend="eager").reset(seed=0)[0].shape
    torch.Size([3, 4])
    """
    env = make_for_gymnasium("make_vector", name, params)
    return TorchVectorEnv(env, num_envs, device, backend, autoreset_mode, render_mode)
