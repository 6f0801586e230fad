"""The Gymnasium face: many environments on a device behind `gymnasium.vector.VectorEnv`."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from funcrl.core import checks, jit, random, tree
from funcrl.core.checks import require
from funcrl.envs.registry import make
from funcrl.envs.stepping import Env, EnvState, reset, step


class TorchVectorEnv(VectorEnv):
    """N environments that take and return torch tensors on their device.

    An episode that ends is followed by the next one in the same step (SAME_STEP autoreset):
    `infos["final_obs"]` holds what each step truly led to and `infos["_final_obs"]` says where an
    episode ended. Unlike Gymnasium's own vector environments, both are there at every step, because
    asking whether any episode ended would wait for the device.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(
        self, env: Env, num_envs: int, device: torch.device | str = "cpu", backend: str = "inductor"
    ) -> None:
        """Make the environments; the step is compiled when it is first taken.

        Args:
            env: What to run.
            num_envs: N.
            device: Where tensors live.
            backend: See `jit`.
        """
        checks.integer("make_vec", "num_envs", num_envs, 1)
        self.env = env
        self.num_envs = num_envs
        self.device = checks.device("make_vec", device)
        self.single_observation_space = env.observation_space
        self.single_action_space = env.action_space
        self.observation_space = batch_space(env.observation_space, num_envs)
        self.action_space = batch_space(env.action_space, num_envs)
        self._key: Tensor | None = None
        self._count = torch.zeros((), dtype=torch.int32, device=self.device)
        self._states: EnvState | None = None
        self._step = jit.jit(self._step_all, backend=backend)

    def _step_all(
        self, states: EnvState, actions: Tensor, key: Tensor, count: Tensor
    ) -> tuple[EnvState, Any, Tensor]:
        keys = random.split(random.fold_in(key, count), self.num_envs)
        states, rows = torch.vmap(lambda s, a, k: step(self.env, s, a, k))(states, actions, keys)
        return states, rows, count + 1

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """Begin an episode in every environment.

        Args:
            seed: Decides everything that follows; without one the stream goes on, or begins anew.
            options: None are known.

        Returns:
            `[N, ...]` observations and an empty dict.

        Raises:
            TypeError: When the seed is not an integer.
            ValueError: When there are options.
        """
        require(not options, "TorchVectorEnv.reset", "options", "be empty", options)
        if seed is not None or self._key is None:
            super().reset(seed=seed)
            fresh = int(self.np_random.integers(2**63)) if seed is None else seed
            self._key = random.key(fresh, self.device)
            self._count = torch.zeros_like(self._count)
        self._key, k_reset = random.split(self._key, 2)
        states = torch.vmap(lambda k: reset(self.env, k))(random.split(k_reset, self.num_envs))
        # What is the same in every environment comes out of vmap as a view of one element.
        states = tree.map(lambda x: x.contiguous(), states)
        self._states = states
        return _copy(states.obs), {}

    def step(self, actions: Tensor) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Take one step everywhere.

        Args:
            actions: `[N, ...]` of the action space's dtype, or anything `torch.as_tensor` takes.

        Returns:
            Observations `[N, ...]`, rewards `[N]`, terminations `[N]`, truncations `[N]`, and infos
            with `final_obs`, `_final_obs`, `episode_return` and `episode_length`.

        Raises:
            ValueError: Before `reset`, or when the actions' shape is wrong.
        """
        require(self._states is not None, "TorchVectorEnv.step", "the environment", "be reset first", None)
        actions = torch.as_tensor(actions, device=self.device)
        self._check(actions)
        self._states, row, self._count = self._step(self._states, actions, self._key, self._count)
        assert self._states is not None
        ended = row.terminated | row.truncated
        infos = {
            "final_obs": _copy(row.next_obs),
            "_final_obs": ended,
            "episode_return": row.episode_return,
            "episode_length": row.episode_length,
        }
        return _copy(self._states.obs), row.reward, row.terminated, row.truncated, infos

    def _check(self, actions: Tensor) -> None:
        expected = (self.num_envs, *(self.single_action_space.shape or ()))
        require(
            tuple(actions.shape) == expected,
            "TorchVectorEnv.step",
            "actions",
            f"have shape {expected}",
            tuple(actions.shape),
        )
        space = self.single_action_space
        if isinstance(space, Discrete):
            require(
                not actions.is_floating_point() and actions.dtype != torch.bool,
                "TorchVectorEnv.step",
                "actions",
                "be integers",
                actions.dtype,
            )
            if self.device.type == "cpu":  # reading values would make the host wait for a GPU
                low, high = int(space.start), int(space.start + space.n) - 1
                inside = bool(((actions >= low) & (actions <= high)).all())
                wrong = [] if inside else sorted(set(actions.tolist()) - set(range(low, high + 1)))
                require(inside, "TorchVectorEnv.step", "actions", f"lie between {low} and {high}", wrong)


def _copy(value: Any) -> Any:
    """What is handed out may be changed by whoever gets it; the state must not be."""
    return tree.map(torch.clone, value)


def make_vector(
    name: str,
    num_envs: int = 1,
    device: torch.device | str = "cpu",
    backend: str = "inductor",
    **params: Any,
) -> TorchVectorEnv:
    """Entry point of `gymnasium.make_vec("funcrl/<name>", num_envs=..., device=...)`.

    Args:
        name: Name in `envs.REGISTRY`.
        num_envs: N.
        device: Where tensors live.
        backend: See `jit`.
        **params: Fields of the environment to change.

    >>> make_vector("CartPole-v1", num_envs=3, backend="eager").reset(seed=0)[0].shape
    torch.Size([3, 4])
    """
    return TorchVectorEnv(make(name, **params), num_envs, device, backend)
