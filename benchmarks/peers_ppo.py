"""PPO on CartPole, config P, as three systems run it; see `peers.py`.

Config P is funcrl's default: 4 environments × 128 steps, 4 epochs × 4 minibatches, separate 64 × 64
tanh networks, a learning rate that falls to zero over 500k steps of each lane, 976 iterations.

- stable-baselines3: the same settings; one lane. Its environments are Gymnasium's, one after the other.
- Rejax: the same settings as far as it has them. Its gradient clipping is elementwise, actor and critic
  have an optimizer each, Adam's ε is 1e-8, weights are Flax's default draw, and a time limit counts as
  an end: what it learns differs a little, what it computes for each step hardly. `train` evaluates 128
  episodes every so often; here the callback for that is replaced by one that does nothing, so only
  training is timed. Lanes are `vmap`, as in its documentation.
"""

from __future__ import annotations

from collections.abc import Sequence

from turns import Contestant

NUM_STEPS = 976 * 512
"""environment steps of a lane"""
EPISODES = 128
"""of each lane, actions drawn from the policy, to say what it has learnt"""
AT_ONCE = 64
"""iterations, all lanes together, in one call of a compiled program: enough that the call costs nothing"""


def funcrl(lanes: int, device: str) -> Contestant:
    """Return funcrl's PPO."""
    import torch

    from funcrl import envs
    from funcrl.algos import ppo
    from funcrl.train import Run, evaluate

    config = ppo.Config(anneal_steps=float(NUM_STEPS))
    run = Run(ppo, envs.make("CartPole-v1"), config, range(lanes), device)
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None

    def advance() -> int:
        for _ in range(max(1, AT_ONCE // lanes)):
            run.iterate()
        wait()
        return max(1, AT_ONCE // lanes) * lanes * run.steps_per_iteration

    def returns() -> Sequence[float]:
        found = evaluate(ppo, run.env, run.agent, num_episodes=EPISODES, greedy=False)
        return found.mean(dim=1).tolist()  # type: ignore[no-any-return]

    run.iterate()
    return Contestant(lanes, advance, returns)


def rejax(lanes: int, device: str) -> Contestant:
    """Return Rejax's PPO."""
    import jax
    import optax
    from rejax import PPO

    chunk = max(1, AT_ONCE // lanes) * 512
    with_evaluation = PPO.create(
        env="CartPole-v1",
        agent_kwargs={"hidden_layer_sizes": (64, 64), "activation": "tanh"},
        num_envs=4,
        num_steps=128,
        num_epochs=4,
        num_minibatches=4,
        learning_rate=optax.linear_schedule(2.5e-4, 0.0, 976 * 16),
        max_grad_norm=0.5,
        gamma=0.99,
        gae_lambda=0.95,
        clip_eps=0.2,
        ent_coef=0.01,
        vf_coef=0.5,
        total_timesteps=chunk,
        eval_freq=chunk,
        skip_initial_evaluation=True,
    )
    algorithm = with_evaluation.replace(eval_callback=lambda algorithm, state, key: ())
    keys = jax.random.split(jax.random.PRNGKey(0), lanes)
    states = jax.jit(jax.vmap(algorithm.init_state))(keys)
    train = jax.jit(jax.vmap(lambda state: algorithm.train(train_state=state)[0]), donate_argnums=0)

    def advance() -> int:
        nonlocal states
        states = jax.block_until_ready(train(states))
        return chunk * lanes

    def returns() -> Sequence[float]:
        evaluate = lambda state: with_evaluation.eval_callback(with_evaluation, state, state.rng)
        _, found = jax.jit(jax.vmap(evaluate))(states)
        return found.mean(axis=1).tolist()  # type: ignore[no-any-return]

    advance()
    return Contestant(lanes, advance, returns)


def stable_baselines3(lanes: int, device: str) -> Contestant:
    """Return stable-baselines3's PPO."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    assert lanes == 1
    taken = 0
    model = PPO(
        "MlpPolicy",
        make_vec_env("CartPole-v1", 4, seed=0),
        learning_rate=lambda _: 2.5e-4 * max(0.0, 1.0 - taken / NUM_STEPS),
        n_steps=128,
        batch_size=128,
        n_epochs=4,
        gamma=0.99,
        gae_lambda=0.95,
        clip_range=0.2,
        clip_range_vf=0.2,
        ent_coef=0.01,
        vf_coef=0.5,
        max_grad_norm=0.5,
        policy_kwargs={
            "net_arch": {"pi": [64, 64], "vf": [64, 64]},
            "activation_fn": torch.nn.Tanh,
            "optimizer_kwargs": {"eps": 1e-5},
        },
        seed=0,
        device=device,
    )

    def advance() -> int:
        nonlocal taken
        model.learn(4 * 512, reset_num_timesteps=False, log_interval=None)
        steps, taken = model.num_timesteps - taken, model.num_timesteps
        return int(steps)

    def returns() -> Sequence[float]:
        worlds = make_vec_env("CartPole-v1", 16, seed=1)
        mean, _ = evaluate_policy(model, worlds, EPISODES, deterministic=False)
        return [float(mean)]

    return Contestant(1, advance, returns)


def make(system: str, lanes: str, device: str) -> Contestant:
    """Return a system at work on so many lanes."""
    return {"funcrl": funcrl, "rejax": rejax, "stable_baselines3": stable_baselines3}[system](
        int(lanes), device
    )
