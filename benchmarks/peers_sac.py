"""SAC as stable-baselines3, Rejax and funcrl run it; see `peers.py`.

On Pendulum: one gradient step for each environment step, batches of 256, a buffer of 100,000, two hidden layers of ReLU,
of the width that the table says, a learned temperature. Every timed step is past warm-up.

Rejax takes the same settings; lanes are `vmap`, as in its documentation. Whether a lane has warmed up is a `cond` on its
state there, which `vmap` turns into computing both and choosing, the replay buffer included.

Updates alone: a gradient step of all networks, 64 wide, on 256 rows. stable-baselines3 draws them from its buffer
within the call that is timed; here they are given.

On HalfCheetah, whose simulator runs on the host: the same, 256 wide.
"""

from __future__ import annotations

from typing import Any

from turns import Contestant

WIDTHS = ("64", "256")
"""of the hidden layers, on Pendulum"""
UPDATES = "64, updates alone"
MUJOCO = "HalfCheetah-v5"
WARMUP = 1_000
"""environment steps before the first update; all that is timed comes later"""
STEPS_AT_ONCE = 160
"""of all lanes together, about"""
BUFFER, BATCH = 100_000, 256


def at_once(lanes: int) -> int:
    """Return how many steps of each lane are taken in one go."""
    return max(10, STEPS_AT_ONCE // lanes)


def described(name: str) -> tuple[str, int]:
    """Return a table's environment, and the width of the hidden layers."""
    return (MUJOCO, 256) if name == MUJOCO else ("Pendulum-v1", int(name))


def funcrl(name: str, lanes: int, device: str) -> Contestant:
    """Return funcrl's SAC, compiled and past its warm-up."""
    import torch

    from funcrl.algos import sac
    from funcrl.train import Run

    env, width = described(name)
    config = sac.Config(hidden=(width, width), warmup_steps=WARMUP, buffer_size=BUFFER, batch_size=BATCH)
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    run = Run(sac, env, config, range(lanes), device, num_cycles=at_once(lanes))

    def advance() -> int:
        run.iterate()
        wait()
        return lanes * run.steps_per_iteration

    while int(run.agent.step.min()) < 10:
        advance()
    return Contestant(lanes, advance)


def their_sac(name: str, device: str) -> Any:
    """Return stable-baselines3's SAC, past its warm-up."""
    import gymnasium
    from stable_baselines3 import SAC

    env, width = described(name)
    model: Any = SAC(
        "MlpPolicy",
        gymnasium.make(env),
        learning_starts=WARMUP,
        buffer_size=BUFFER,
        batch_size=BATCH,
        policy_kwargs={"net_arch": [width, width]},
        seed=0,
        device=device,
    )

    model.learn(WARMUP + 10, log_interval=None)
    return model


def stable_baselines3(name: str, lanes: int, device: str) -> Contestant:
    """Return stable-baselines3's SAC at work."""
    assert lanes == 1
    model = their_sac(name, device)

    def advance() -> int:
        before = model.num_timesteps
        model.learn(at_once(1), reset_num_timesteps=False, log_interval=None)
        return int(model.num_timesteps - before)

    return Contestant(1, advance)


def rejax(name: str, lanes: int, device: str) -> Contestant:
    """Return Rejax's SAC, compiled and past its warm-up."""
    import jax
    from rejax import SAC

    env, width = described(name)
    chunk = at_once(lanes)
    algorithm = SAC.create(
        env=env,
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


def updates(system: str, lanes: int, device: str) -> Contestant:
    """Return gradient steps alone, of 64 wide networks: compiled, eager, or stable-baselines3's."""
    import torch

    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    if system == "stable_baselines3":
        model = their_sac("64", device)
        step = lambda: model.train(gradient_steps=1, batch_size=BATCH)
    else:
        from replayed import agents_and_rows

        from funcrl.algos import sac
        from funcrl.core import jit

        backend = "eager" if system == "funcrl_eager" else "inductor"
        given = agents_and_rows("sac", lanes, device)
        step = jit.jit(torch.vmap(sac.update), donate=(0,), backend=backend).bind(*given)

    def advance() -> int:
        step()
        wait()
        return lanes

    advance()
    return Contestant(lanes, advance)


def make(system: str, lanes: str, device: str, name: str) -> Contestant:
    """Return a system at work on so many lanes, as a table's name says."""
    if name == UPDATES:
        return updates(system, int(lanes), device)
    made = {"funcrl": funcrl, "rejax": rejax, "stable_baselines3": stable_baselines3}
    return made[system](name, int(lanes), device)
