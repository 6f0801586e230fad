"""SAC on Pendulum as stable-baselines3 and as funcrl run it; see `peers.py`.

One gradient step for each environment step, batches of 256, a buffer of 100,000, two hidden layers of ReLU, of the width
that the table says, a learned temperature. Every timed step is past warm-up.

Rejax takes the same settings; lanes are `vmap`, as in its documentation. Whether a lane has warmed up is a `cond` on its
state there, which `vmap` turns into computing both and choosing, the replay buffer included.
"""

from __future__ import annotations

from typing import Any

from turns import Contestant

SETTINGS = ("64", "256")
"""widths of the hidden layers"""
WARMUP = 1_000
"""environment steps before the first update; all that is timed comes later"""
STEPS_AT_ONCE = 160
"""of all lanes together, about"""
BUFFER, BATCH = 100_000, 256


def at_once(lanes: int) -> int:
    """Return how many steps of each lane are taken in one go."""
    return max(10, STEPS_AT_ONCE // lanes)


def funcrl(width: int, lanes: int, device: str) -> Contestant:
    """Return funcrl's SAC, compiled and past its warm-up."""
    import torch

    from funcrl import envs
    from funcrl.algos import sac
    from funcrl.train import Run

    config = sac.Config(hidden=(width, width), warmup_steps=WARMUP, buffer_size=BUFFER, batch_size=BATCH)
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    run = Run(sac, envs.make("Pendulum-v1"), config, range(lanes), device, num_cycles=at_once(lanes))

    def advance() -> int:
        run.iterate()
        wait()
        return lanes * run.steps_per_iteration

    while int(run.agent.step.min()) < 10:
        advance()
    return Contestant(lanes, advance)


def stable_baselines3(width: int, lanes: int, device: str) -> Contestant:
    """Return stable-baselines3's SAC, past its warm-up."""
    import gymnasium
    from stable_baselines3 import SAC

    assert lanes == 1
    model: Any = SAC(
        "MlpPolicy",
        gymnasium.make("Pendulum-v1"),
        learning_starts=WARMUP,
        buffer_size=BUFFER,
        batch_size=BATCH,
        policy_kwargs={"net_arch": [width, width]},
        seed=0,
        device=device,
    )

    def advance() -> int:
        before = model.num_timesteps
        model.learn(at_once(1), reset_num_timesteps=False, log_interval=None)
        return int(model.num_timesteps - before)

    while model.num_timesteps < WARMUP + 10:
        advance()
    return Contestant(1, advance)


def rejax(width: int, lanes: int, device: str) -> Contestant:
    """Return Rejax's SAC, compiled and past its warm-up."""
    import jax
    from rejax import SAC

    chunk = at_once(lanes)
    algorithm = SAC.create(
        env="Pendulum-v1",
        agent_kwargs={"activation": "relu"},
        hidden_layer_sizes=(width, width),
        num_envs=1,
        buffer_size=BUFFER,
        fill_buffer=WARMUP,
        batch_size=BATCH,
        learning_rate=3e-4,
        gamma=0.99,
        polyak=0.995,
        max_grad_norm=float("inf"),
        total_timesteps=chunk,
        eval_freq=chunk,
        skip_initial_evaluation=True,
    ).replace(eval_callback=lambda algorithm, state, key: ())
    keys = jax.random.split(jax.random.PRNGKey(0), lanes)
    states = jax.jit(jax.vmap(algorithm.init_state))(keys)
    train = jax.jit(jax.vmap(lambda state: algorithm.train(train_state=state)[0]), donate_argnums=0)

    def advance() -> int:
        nonlocal states
        states = jax.block_until_ready(train(states))
        return chunk * lanes

    while int(states.global_step.min()) < WARMUP + 10:
        advance()
    return Contestant(lanes, advance)


def make(system: str, lanes: str, device: str, name: str) -> Contestant:
    """Return a system at work on so many lanes, with layers of one width."""
    made = {"funcrl": funcrl, "rejax": rejax, "stable_baselines3": stable_baselines3}
    return made[system](int(name), int(lanes), device)
