"""What follows the end of an episode, in Gymnasium's three ways, as pure functions of N environments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from funcrl.core import random, tree
from funcrl.core.batching import vmap
from funcrl.core.graphs import copy
from funcrl.core.lanes import Lanes
from funcrl.envs.stepping import Env, EnvState, advance, advance_all, reset, reset_all, restart


@tree.struct
class VectorState:
    """N environments, each with a random stream of its own.

    Event number `count` of an environment, a step or a beginning, uses `fold_in(key, count)`, in
    whatever autoreset mode.
    """

    envs: EnvState
    """`[N]`"""
    key: Tensor
    """`[N, 2]` int32"""
    count: Tensor
    """`[N]` int32, number of the next event"""
    ended: Tensor
    """`[N]` boolean: the episode is over, and what comes next is a reset"""


class Stepping:
    """The programs of a `TorchVectorEnv`; `values` are the numbers in which its environments differ.

    Each of the steps takes `(values, state, actions)` and returns the state after, the
    `(obs, reward, terminated, truncated)` to hand out, and a dict of infos. `last_step` and `idle_step`
    leave it to others to begin episodes, which costs less outside of a program where few have ended.
    """

    def __init__(self, lanes: Lanes) -> None:
        """Keep what to step.

        Args:
            lanes: The environment, taken apart.
        """
        self._lanes = lanes
        self._env: Env = lanes.first

    def begin(self, values: list[Tensor], keys: Tensor) -> VectorState:
        """Begin N streams, and an episode in each environment.

        Args:
            values: `[N]` each.
            keys: `[N, 2]` int32.
        """
        number = torch.zeros(keys.shape[0], dtype=torch.int32, device=keys.device)
        first = _keys(keys, number)
        if values:
            envs = vmap(lambda v, k: reset(self._lanes.one(v), k))(values, first)
        else:
            envs = reset_all(self._env, first)
        # What is the same in every environment comes out of vmap as a view of one element.
        envs = tree.map(lambda x: torch.clone(x, memory_format=torch.contiguous_format), envs)
        ended = torch.zeros(keys.shape[0], dtype=torch.bool, device=keys.device)
        return VectorState(envs=envs, key=keys, count=number + 1, ended=ended)

    def _advance(self, values: list[Tensor], envs: EnvState, actions: Tensor, keys: Tensor) -> Any:
        if not values:
            return advance_all(self._env, envs, actions, keys)
        one = lambda v, e, a, k: advance(self._lanes.one(v), e, a, k)
        return vmap(one)(values, envs, actions, keys)

    def _begin_again(self, values: list[Tensor], envs: EnvState, keys: Tensor) -> EnvState:
        one = lambda v, e, k: restart(self._lanes.one(v), e, k)
        return vmap(one)(values, envs, keys)

    def _bare_step(self, values: list[Tensor], state: VectorState, actions: Tensor) -> Any:
        """Stay where the episode ended, with infos that have no masks."""
        envs, rows = self._advance(values, state.envs, actions, _keys(state.key, state.count))
        after = tree.replace(state, envs=envs, count=state.count + 1, ended=rows.terminated | rows.truncated)
        outputs = (rows.next_obs, rows.reward, rows.terminated, rows.truncated)
        infos = {"episode_return": rows.episode_return, "episode_length": rows.episode_length}
        return after, outputs, tree.map(torch.clone, infos)

    def plain_step(self, values: list[Tensor], state: VectorState, actions: Tensor) -> Any:
        """DISABLED: stay where the episode ended."""
        after, outputs, infos = self._bare_step(values, state, actions)
        return after, outputs, _masked(infos, torch.ones_like(after.ended))

    def same_step(self, values: list[Tensor], state: VectorState, actions: Tensor) -> Any:
        """SAME_STEP: begin the next episode at once and keep what the last step led to."""
        after, (_, *figures), infos = self.last_step(values, state, actions)
        after = self.restart_some(values, after, after.ended)
        return after, (tree.map(torch.clone, after.envs.obs), *figures), infos

    def last_step(self, values: list[Tensor], state: VectorState, actions: Tensor) -> Any:
        """SAME_STEP but for the beginning."""
        after, outputs, infos = self._bare_step(values, state, actions)
        return after, outputs, _final(outputs[0], after.ended, infos)

    def next_step(self, values: list[Tensor], state: VectorState, actions: Tensor) -> Any:
        """NEXT_STEP: where the last step ended an episode, begin the next one in place of a step."""
        begins = state.ended
        fresh = self._begin_again(values, state.envs, _keys(state.key, state.count))
        after, (_, *figures), infos = self.idle_step(values, state, actions)
        after = tree.replace(after, envs=tree.where(begins, fresh, after.envs))
        return after, (tree.map(torch.clone, after.envs.obs), *figures), infos

    def idle_step(self, values: list[Tensor], state: VectorState, actions: Tensor) -> Any:
        """NEXT_STEP but for the beginning: report no step where the last one ended an episode."""
        begins = state.ended
        after, (obs, reward, *flags), infos = self._bare_step(values, state, actions)
        after = tree.replace(after, ended=after.ended & ~begins)
        figures = (torch.where(begins, 0.0, reward), *(flag & ~begins for flag in flags))
        infos = tree.where(begins, tree.map(torch.zeros_like, infos), infos)
        return after, (obs, *figures), _masked(infos, ~begins)

    def begin_here(self, state: VectorState, values: list[Tensor], index: Tensor) -> VectorState:
        """Begin an episode in the environments that are listed.

        Args:
            state: `[N]`, which is overwritten.
            values: `[N]` each.
            index: `[K]` int64; one may be there more than once.
        """
        rows = tree.index(state, index)
        return self._put(state, rows, values, index, rows.count + 1)

    def begin_instead(
        self, after: VectorState, before: VectorState, values: list[Tensor], index: Tensor
    ) -> VectorState:
        """Begin an episode in the environments that are listed, instead of the step from `before` to `after`."""
        rows = tree.index(before, index)
        return self._put(after, rows, values, index, rows.count + 1)

    def _put(
        self, state: VectorState, rows: VectorState, values: list[Tensor], index: Tensor, count: Tensor
    ) -> VectorState:
        fresh = self._begin_again([v[index] for v in values], rows.envs, _keys(rows.key, rows.count))
        put: Any = lambda whole, part: whole.index_put((index,), part)
        return tree.replace(
            state,
            envs=tree.map(put, state.envs, fresh),
            count=put(state.count, count),
            ended=put(state.ended, torch.zeros_like(rows.ended)),
        )

    def restart_some(self, values: list[Tensor], state: VectorState, mask: Tensor) -> VectorState:
        """Begin an episode in the environments of a mask, `[N]` boolean."""
        fresh = self._begin_again(values, state.envs, _keys(state.key, state.count))
        envs = tree.where(mask, fresh, state.envs)
        return tree.replace(state, envs=envs, count=state.count + mask, ended=state.ended & ~mask)


def owned(step: Callable[..., Any], values: list[Tensor], state: VectorState, actions: Tensor) -> Any:
    """Take a step whose state shares no tensor, neither within itself nor with what is handed out."""
    after, *rest = step(values, state, actions)
    return tree.map(copy, after), *rest


def unrolled(step: Callable[..., Any], values: list[Tensor], state: VectorState, actions: Tensor) -> Any:
    """Take the steps of `actions`, `[T, N, ...]`, one after the other, and stack what they return."""
    rows = []
    for row in actions.unbind(0):
        state, outputs, infos = step(values, state, row)
        rows.append((outputs, infos))
    return state, *tree.stack(rows)


def _keys(key: Tensor, count: Tensor) -> Tensor:
    return vmap(random.fold_in)(key, count)


def _masked(infos: dict[str, Tensor], there: Tensor) -> dict[str, Tensor]:
    """Return infos with a mask each; as in Gymnasium `_name` says which environments have `name`."""
    return {k: v for name, value in infos.items() for k, v in ((name, value), (f"_{name}", copy(there)))}


def _final(final_obs: Any, ended: Tensor, infos: dict[str, Tensor]) -> dict[str, Any]:
    """Return the infos of a step that also resets, with those of the episodes that ended apart."""
    kept = {"final_obs": final_obs, "final_info": _masked(tree.map(copy, infos), ended)}
    return {**kept, "_final_obs": copy(ended), "_final_info": copy(ended), **_masked(infos, ~ended)}
