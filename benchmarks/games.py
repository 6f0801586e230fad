"""How fast the games of MinAtar are stepped: here, by gymnax (JAX) and by the package itself, one core each.

    python benchmarks/games.py [--envs 4096] [--seconds 3]

Rows are environment steps a second with actions drawn beforehand, episodes begun anew, compiling apart. gymnax comes with the extra
`peers` and has no Seaquest; its observations, rewards and ends were not compared with anything here.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NPROC", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import torch

from funcrl import envs

GAMES = {
    "Asterix": "asterix",
    "Breakout": "breakout",
    "Freeway": "freeway",
    "Seaquest": "seaquest",
    "SpaceInvaders": "space_invaders",
}


WARM_UP = 6
"""calls, after which episodes have ended too"""


def timed(run: Callable[[], int], seconds: float) -> tuple[float, float]:
    """Return the rate of what returns how many steps it has taken, and the seconds of its first calls, which compile."""
    began = time.perf_counter()
    for _ in range(WARM_UP):
        run()
    first = time.perf_counter() - began
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        steps += run()
    return steps / (time.perf_counter() - began), first


def ours(game: str, num: int) -> Callable[[], int]:
    """Return what takes ten steps of `num` environments."""
    env = envs.make(f"{game}-MinAtar")
    many = envs.TorchVectorEnv(env, num)
    many.reset(seed=0)
    rows = torch.randint(0, int(env.action_space.n), (10, num), generator=torch.Generator().manual_seed(0))

    def run() -> int:
        for actions in rows:
            many.step(actions)
        return rows.numel()

    return run


def gymnaxs(game: str, num: int) -> Callable[[], int] | None:
    """Return what takes a hundred steps of `num` environments, None where there is no such game or no gymnax."""
    if importlib.util.find_spec("gymnax") is None or game == "Seaquest":
        return None
    import gymnax
    import jax

    env, params = gymnax.make(f"{game}-MinAtar")
    reset, step = jax.vmap(env.reset, (0, None)), jax.vmap(env.step, (0, 0, 0, None))
    key = jax.random.PRNGKey(0)

    @jax.jit
    def steps(key, state):
        def one(carry, _):
            key, state = carry
            key, k_action, k_step = jax.random.split(key, 3)
            action = jax.random.randint(k_action, (num,), 0, env.num_actions)
            obs, state, reward, *_ = step(jax.random.split(k_step, num), state, action, params)
            return (key, state), (obs.sum(), reward.sum())

        return jax.lax.scan(one, (key, state), None, 100)

    _, state = jax.jit(reset)(jax.random.split(key, num), params)
    carry = [(key, state)]

    def run() -> int:
        after, seen = steps(*carry[0])
        jax.block_until_ready(seen)
        carry[0] = after
        return 100 * num

    return run


def packages(game: str) -> Callable[[], int] | None:
    """Return what takes a thousand steps of the package's game, None where it is missing."""
    if importlib.util.find_spec("minatar") is None:
        return None
    from minatar import Environment

    env = Environment(GAMES[game])
    actions = torch.randint(0, 6, (1000,), generator=torch.Generator().manual_seed(0)).tolist()

    def run() -> int:
        for action in actions:
            _, over = env.act(action)
            env.state()
            if over:
                env.reset()
        return len(actions)

    return run


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("games", nargs="*", default=list(GAMES))
    parser.add_argument("--envs", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=3.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| game | funcrl | compiling | gymnax | compiling | minatar |\n|---|---|---|---|---|---|", flush=True
    )
    for game in given.games:
        cells = []
        for run in (ours(game, given.envs), gymnaxs(game, given.envs)):
            rate, first = (0.0, 0.0) if run is None else timed(run, given.seconds)
            cells += ["–", "–"] if run is None else [f"{rate:,.0f}", f"{first:.1f} s"]
        alone = packages(game)
        cells.append("–" if alone is None else f"{timed(alone, given.seconds)[0]:,.0f}")
        print(f"| {game} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
