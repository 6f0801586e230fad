"""One agent whose networks are split over several processes, trained by the same `update` as any other.

python examples/split_network.py [--ranks 2] [--hidden 256,256] [--windows 10] [--out split_network.png]
torchrun --nproc-per-node 2 examples/split_network.py          # the same, started by a launcher

It is for networks that are too large for one device. A state is a tree of tensors and `ppo.update` a pure function of it,
so nothing of the algorithm has to know: each weight becomes a distributed tensor of torch, of which every rank holds
its part. Of two layers the first is cut by its outputs and the second by its inputs (Shoeybi et al. 2019, "Megatron-LM",
section 3), so that ranks talk once for both; torch adds what else they must say to each other, as for the
norm of the gradient. Environments are stepped by every rank alike. The picture shows which rank holds which part of the actor.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import re
import tempfile
from collections.abc import Iterator
from typing import Any

import torch
from matplotlib.colors import ListedColormap
from torch import Tensor, distributed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.experimental import implicit_replication

from funcrl import envs
from funcrl.algos import ppo
from funcrl.core import Transition, random, tree
from funcrl.io import picture

CUT = {"*layers.0.*": 0, "*layers.2.weight": 1}
"""The axis by which tensors are cut, by name; all others are held by every rank. Moments of the optimiser have the names of
the numbers that they belong to, so they are cut alike."""


def split(state: Any, mesh: DeviceMesh) -> Any:
    """Return a state as distributed tensors, each cut as `CUT` says."""

    def placed(name: str, x: Tensor) -> DTensor:
        axes = [axis for pattern, axis in CUT.items() if fnmatch.fnmatchcase(name.replace("']", ""), pattern)]
        return distribute_tensor(x, mesh, [Shard(axes[0]) if axes else Replicate()])

    found = iter([placed(name, x) for name, x in tree.named_leaves(state).items()])
    return tree.map(lambda _: next(found), state)


def whole(distributed_tree: Any) -> Any:
    """Return a tree of distributed tensors as plain ones, put together."""
    return tree.map(lambda x: x.full_tensor() if isinstance(x, DTensor) else x, distributed_tree)


def held(state: Any) -> int:
    """Return how many numbers of an agent this rank holds."""
    return sum(x.to_local().numel() if isinstance(x, DTensor) else x.numel() for x in tree.leaves(state))


def draw(actor: dict[str, Any], ranks: int, path: str) -> None:
    """Draw the weights of a split actor, each part in the colour of its rank, grey what all of them hold."""
    weights = {name: x for name, x in actor.items() if x.ndim == 2}
    with picture(path, (3.2 * len(weights), 3.4), columns=len(weights)) as places:
        for axes, (name, x) in zip(places, weights.items(), strict=True):
            (placement,) = x.placements
            holder = torch.full(x.shape, -1)
            if placement.is_shard():
                for rank, part in enumerate(holder.chunk(ranks, placement.dim)):
                    part.fill_(rank)
            colors = ["0.85", *(f"C{rank % 10}" for rank in range(ranks))]
            axes.imshow(holder, aspect="auto", cmap=ListedColormap(colors), vmin=-1, vmax=ranks - 1)
            held_by = "a part on each rank" if placement.is_shard() else "whole, on every rank"
            axes.set(title=name, xlabel=f"{x.shape[0]} × {x.shape[1]}, {held_by}", xticks=[], yticks=[])


def collect(agent: Any, env: Any, running: Any, key: Tensor) -> tuple[Any, Transition, Tensor]:
    """Step the environments for one window; return them, the window, and the returns of the episodes that ended."""
    rows, returns = [], []
    for k_step in random.split(key, agent.config.window_length):
        k_act, k_envs = random.split(k_step, 2)
        action, extras = whole(ppo.act(agent, running.obs, k_act))
        running, step = envs.step_all(env, running, action, random.split(k_envs, agent.config.num_envs))
        names = ("obs", "reward", "terminated", "truncated", "next_obs")
        rows.append(Transition(action=action, extras=extras, **{name: getattr(step, name) for name in names}))
        returns.append(step.episode_return[step.terminated | step.truncated])
    return running, tree.stack(rows), torch.cat(returns)


def learn(agent: Any, batch: Any, orders: list[Tensor]) -> Any:
    """Return the agent after the minibatches of a window."""
    for rows in orders:
        agent = ppo.update(agent, tree.index(batch, rows))
    return agent


def minibatches(config: ppo.Config, key: Tensor) -> Iterator[Tensor]:
    """Yield which rows of a window each minibatch has."""
    num_rows = config.num_envs * config.window_length
    for k_epoch in random.split(key, config.num_epochs):
        yield from random.permutation(k_epoch, num_rows).chunk(config.num_minibatches)


def work(rank: int, ranks: int, meeting: str, given: argparse.Namespace) -> None:
    """Do what one rank does; the first one prints."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=ranks)
    mesh = init_device_mesh("cpu", (ranks,))
    env = envs.make("CartPole-v1")
    k_init, k_reset, k_learn = random.split(random.key(given.seed), 3)
    config = ppo.Config(hidden=given.hidden, num_envs=16, window_length=128)
    one = ppo.init(k_init, config, env)
    running = envs.reset_all(env, random.split(k_reset, config.num_envs))
    agent = split(one, mesh)

    def say(text: str) -> None:
        if rank == 0:
            print(text, flush=True)

    if rank == 0:
        draw(agent.params["actor"], ranks, given.out)
    say(f"wrote {given.out}")
    say(f"the agent has {held(one):,} numbers, of which each of {ranks} ranks holds {held(agent):,}")
    with implicit_replication():
        for window in range(given.windows):
            k_collect, k_order = random.split(random.fold_in(k_learn, window), 2)
            running, transitions, returns = collect(agent, env, running, k_collect)
            batch = ppo.prepare(agent, transitions)
            orders = list(minibatches(config, k_order))
            agent = learn(agent, batch, orders)
            if window == 0:
                one = learn(one, whole(batch), orders)
                pairs = zip(tree.leaves(one.params), tree.leaves(whole(agent.params)), strict=True)
                difference = max(float((a - b).abs().max()) for a, b in pairs)
                say(f"after {len(orders)} updates it differs from an agent in one piece by {difference:.1e}")
            say(f"window {window + 1:3}: {len(returns):3} episodes ended, mean return {returns.mean():5.1f}")
    distributed.destroy_process_group()


def sizes(text: str) -> tuple[int, ...]:
    """Read `256,256`."""
    if not re.fullmatch(r"[1-9]\d*,[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"must be two widths, got {text!r}. Write --hidden 256,256.")
    return tuple(int(word) for word in text.split(","))


def main() -> None:
    """Read the words, and start the ranks where no launcher has."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2, help="processes; under torchrun it says how many")
    parser.add_argument("--hidden", type=sizes, default=(256, 256), help="widths of the two layers")
    parser.add_argument("--windows", type=int, default=10, help="of 2048 steps each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="split_network.png", help="picture to write")
    given = parser.parse_args()
    if given.ranks < 1 or given.windows < 1:
        parser.error(f"--ranks and --windows must be at least 1, got {given.ranks} and {given.windows}")
    if "RANK" in os.environ:
        work(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), "env://", given)
        return
    with tempfile.TemporaryDirectory() as folder:
        arguments = (given.ranks, f"file://{folder}/meeting", given)
        torch.multiprocessing.spawn(work, arguments, nprocs=given.ranks)


if __name__ == "__main__":
    main()
