"""Settings with which reference results were obtained, by name.

`cleanrl` is CleanRL's default for classic control (Huang et al. 2022, JMLR 23), `zoo` is RL Baselines3
Zoo's tuned settings for each environment (`hyperparams/dqn.yml`, `a2c.yml`, `ppo.yml` and so on). Their words are not always ours: a
target network that is visited every so many environment steps is visited here every so many gradient
steps, the number that the reference takes in between. `zoo-slow` is the zoo's with a quarter of its
learning rate, for CartPole and MountainCar: with the zoo's own it is chance how good the last policy of
a run is, in the zoo's own implementation as in this one. For the games of MinAtar `purejaxrl` has PureJaxRL's PPO (Lu et al. 2022),
`purejaxql` the PQN of its authors (Gallici et al. 2024) and `dopamine` Dopamine's DQN (Obando-Ceron & Castro 2021). `own` is our own,
for environments of our own, and `recurrent` too, for those that ask for a memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from funcrl import algos
from funcrl.core import checks

_CLEANRL = {
    "learning_rate": 2.5e-4,
    "gamma": 0.99,
    "epsilon": 0.05,
    "exploration_steps": 250_000.0,
    "window_length": 10,
    "updates_per_window": 1,
    "warmup_steps": 10_000,
    "buffer_size": 10_000,
    "batch_size": 128,
    "target_period": 50,
    "hidden": (120, 84),
    "huber_threshold": math.inf,
    "max_grad_norm": math.inf,
}

_ZOO = {"hidden": (256, 256), "huber_threshold": 1.0, "max_grad_norm": 10.0}

_ZOO_CARTPOLE = _ZOO | {
    "learning_rate": 2.3e-3,
    "gamma": 0.99,
    "epsilon": 0.04,
    "exploration_steps": 8_000.0,
    "window_length": 256,
    "updates_per_window": 128,
    "warmup_steps": 1_000,
    "buffer_size": 100_000,
    "batch_size": 64,
    # Every 10 environment steps, which all fall between two rounds of 128 gradient steps.
    "target_period": 128,
}

_ZOO_MOUNTAIN_CAR = _ZOO | {
    "learning_rate": 4e-3,
    "gamma": 0.98,
    "epsilon": 0.07,
    "exploration_steps": 24_000.0,
    "window_length": 16,
    "updates_per_window": 8,
    "warmup_steps": 1_000,
    "buffer_size": 10_000,
    "batch_size": 128,
    "target_period": 300,
}

_ZOO_ACROBOT = _ZOO | {
    "learning_rate": 6.3e-4,
    "gamma": 0.99,
    "epsilon": 0.1,
    "exploration_steps": 12_000.0,
    "window_length": 4,
    "updates_per_window": 4,
    "warmup_steps": 0,
    "buffer_size": 50_000,
    "batch_size": 128,
    "target_period": 250,
}

_MINATAR = tuple(
    f"{game}-MinAtar" for game in ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")
)

# One convolution and no hidden layer. A target network that is visited every 1000 environment steps.
_DOPAMINE_MINATAR = {
    "learning_rate": 2.5e-4,
    "adam_epsilon": 3.125e-4,
    "epsilon": 0.01,
    "exploration_steps": 250_000.0,
    "window_length": 4,
    "updates_per_window": 1,
    "warmup_steps": 1_000,
    "buffer_size": 100_000,
    "storage": "uint8",
    "batch_size": 32,
    "target_period": 250,
    "channels": (16,),
    "stride": 1,
    "hidden": (),
}

_DQN: dict[str, dict[str, tuple[int, dict[str, Any]]]] = {
    "cleanrl": {"CartPole-v1": (500_000, _CLEANRL), "Acrobot-v1": (500_000, _CLEANRL)},
    "zoo": {
        "CartPole-v1": (50_000, _ZOO_CARTPOLE),
        "MountainCar-v0": (120_000, _ZOO_MOUNTAIN_CAR),
        "Acrobot-v1": (100_000, _ZOO_ACROBOT),
    },
}

_DQN["zoo-slow"] = {
    env: (num_steps, settings | {"learning_rate": settings["learning_rate"] / 4})
    for env, (num_steps, settings) in _DQN["zoo"].items()
    if env != "Acrobot-v1"
}

# What stable-baselines3 does where the zoo says nothing.
_ZOO_PPO = {
    "learning_rate": 3e-4,
    "anneal_steps": math.inf,
    "entropy_weight": 0.0,
    "clip_value_loss": False,
}

_ZOO_PPO_CARTPOLE = _ZOO_PPO | {
    "learning_rate": 1e-3,
    # Learning rate and clip range fall together, over the whole run.
    "anneal_steps": 0.0,
    "anneal_clip_range": True,
    "gamma": 0.98,
    "gae_lambda": 0.8,
    "num_envs": 8,
    "window_length": 32,
    "num_epochs": 20,
    "num_minibatches": 1,
}

_ZOO_PPO_ACROBOT = _ZOO_PPO | {
    "gae_lambda": 0.94,
    "num_envs": 16,
    "window_length": 256,
    # 64 rows each.
    "num_minibatches": 64,
    "normalize_observation": True,
    "normalize_reward": True,
}

_ZOO_PENDULUM = _ZOO_PPO | {
    "learning_rate": 1e-3,
    "gamma": 0.9,
    "gae_lambda": 0.95,
    "window_length": 1024,
    "num_epochs": 10,
    # 64 rows each.
    "num_minibatches": 64,
}

_ZOO_MOUNTAIN_CAR_CONTINUOUS = _ZOO_PPO | {
    "learning_rate": 7.77e-5,
    "gamma": 0.9999,
    "gae_lambda": 0.9,
    "clip_range": 0.1,
    "entropy_weight": 0.00429,
    "value_weight": 0.19,
    "max_grad_norm": 5.0,
    "num_envs": 1,
    "window_length": 8,
    "num_epochs": 10,
    "num_minibatches": 1,
    "action_noise": "smooth",
    "orthogonal": False,
    "initial_log_std": -3.29,
    "normalize_observation": True,
    "normalize_reward": True,
}

_ZOO_LUNAR_LANDER = _ZOO_PPO | {
    "entropy_weight": 0.01,
    "gamma": 0.999,
    "gae_lambda": 0.98,
    "num_envs": 16,
    "window_length": 1024,
    # 64 rows each.
    "num_minibatches": 256,
}

_RECURRENT = _ZOO_PPO | {
    "recurrent_cell": "gru",
    "learning_rate": 1e-3,
    "anneal_steps": 0.0,
    "num_envs": 8,
}

_RECURRENT_CARTPOLE = _RECURRENT | {
    "gamma": 0.98,
    "gae_lambda": 0.8,
    "window_length": 32,
    "num_epochs": 10,
    "num_minibatches": 2,
    "sequence_length": 16,
    "normalize_observation": True,
}

# Gradients go back from the junction to the sign at the first cell of a corridor of 30.
_RECURRENT_MAZE = _RECURRENT | {"entropy_weight": 0.01, "window_length": 96, "sequence_length": 32}

# What stable-baselines3 does where the zoo says nothing. Its buffers are larger than these runs are long.
_ZOO_SAC = {"warmup_steps": 100, "hidden": (256, 256)}

_ZOO_SAC_PENDULUM = _ZOO_SAC | {"learning_rate": 1e-3, "buffer_size": 20_000}

_ZOO_SAC_MOUNTAIN_CAR_CONTINUOUS = {
    "learning_rate": 3e-4,
    "gamma": 0.9999,
    "tau": 0.01,
    "temperature": 0.1,
    "learn_temperature": False,
    "window_length": 32,
    "updates_per_window": 32,
    "warmup_steps": 0,
    "buffer_size": 50_000,
    "batch_size": 512,
    "hidden": (64, 64),
    "action_noise": "smooth",
    "initial_log_std": -3.67,
}

# As the zoo's, whose environments are the version before these.
_ZOO_MUJOCO = {"warmup_steps": 10_000, "buffer_size": 1_000_000, "batch_size": 256}

_ZOO_SAC_MUJOCO = _ZOO_MUJOCO | {"learning_rate": 3e-4, "hidden": (256, 256)}

_ZOO_DETERMINISTIC_MUJOCO = _ZOO_MUJOCO | {
    "learning_rate": 1e-3,
    "noise": "normal",
    "exploration_noise": 0.1,
    "hidden": (400, 300),
}

_MUJOCO = ("HalfCheetah-v5", "Hopper-v5")

# It has to see what the throttle is good for, so it sees more than one update could learn from.
_OWN_DRIVING = {
    "learning_rate": 1e-3,
    "num_envs": 8,
    "updates_per_window": 2,
    "warmup_steps": 8_000,
    "buffer_size": 400_000,
    "hidden": (64, 64),
}

_ZOO_DETERMINISTIC_PENDULUM = {
    "learning_rate": 1e-3,
    "gamma": 0.98,
    "noise": "normal",
    "exploration_noise": 0.1,
    "warmup_steps": 10_000,
    "buffer_size": 20_000,
    "hidden": (400, 300),
}

_DETERMINISTIC = {
    "zoo": {
        "Pendulum-v1": (20_000, _ZOO_DETERMINISTIC_PENDULUM),
        **dict.fromkeys(_MUJOCO, (1_000_000, _ZOO_DETERMINISTIC_MUJOCO)),
    }
}

# Separate perceptrons for policy and value.
_PUREJAXRL_MINATAR = {
    "learning_rate": 5e-3,
    "num_envs": 64,
    "window_length": 128,
    "num_minibatches": 8,
    "activation": "relu",
    "channels": (),
}

_PUREJAXQL_MINATAR = {
    "learning_rate": 5e-4,
    "td_lambda": 0.65,
    # A tenth of the ten million steps.
    "exploration_steps": 1_000_000.0,
    "num_envs": 128,
    "window_length": 32,
    "num_epochs": 2,
    "num_minibatches": 32,
    "channels": (16,),
    "hidden": (128,),
}

# What these name no setting for is the algorithm's default. The zoo explores Pendulum with noise that depends on
# the state; here it is plain normal noise.
_PPO: dict[str, dict[str, tuple[int, dict[str, Any]]]] = {
    "cleanrl": {"CartPole-v1": (500_000, {}), "Acrobot-v1": (500_000, {})},
    "zoo": {
        "CartPole-v1": (100_000, _ZOO_PPO_CARTPOLE),
        "Acrobot-v1": (1_000_000, _ZOO_PPO_ACROBOT),
        "LunarLander-v3": (1_000_000, _ZOO_LUNAR_LANDER),
        "MountainCarContinuous-v0": (20_000, _ZOO_MOUNTAIN_CAR_CONTINUOUS),
        "Pendulum-v1": (100_000, _ZOO_PENDULUM),
    },
    "purejaxrl": dict.fromkeys(_MINATAR, (10_000_000, _PUREJAXRL_MINATAR)),
    "recurrent": {
        "PositionOnlyCartPole-v0": (300_000, _RECURRENT_CARTPOLE),
        "TMaze-v0": (500_000, _RECURRENT_MAZE),
    },
}

# A dueling network wants a hidden layer.
_WITHOUT_HIDDEN = {"dopamine": dict.fromkeys(_MINATAR, (10_000_000, _DOPAMINE_MINATAR))}

PRESETS: dict[str, dict[str, dict[str, tuple[int, dict[str, Any]]]]] = {
    "dqn": _DQN | _WITHOUT_HIDDEN,
    "double_dqn": _DQN | _WITHOUT_HIDDEN,
    "dueling_dqn": _DQN,
    "a2c": {"zoo": {"CartPole-v1": (500_000, {})}},
    "ddpg": _DETERMINISTIC,
    "ppo": _PPO,
    "pqn": {"purejaxql": dict.fromkeys(_MINATAR, (10_000_000, _PUREJAXQL_MINATAR))},
    "sac": {
        "zoo": {
            "MountainCarContinuous-v0": (50_000, _ZOO_SAC_MOUNTAIN_CAR_CONTINUOUS),
            "Pendulum-v1": (20_000, _ZOO_SAC_PENDULUM),
            **dict.fromkeys(_MUJOCO, (1_000_000, _ZOO_SAC_MUJOCO)),
        },
        "own": {"Driving-v0": (400_000, _OWN_DRIVING)},
    },
    "td3": _DETERMINISTIC,
}
"""algorithm → preset → environment → environment steps of a lane, and settings"""


@dataclass(frozen=True)
class Preset:
    """Settings and the length of the run that they are meant for."""

    config: Any
    num_steps: int
    """environment steps of each lane"""


def preset(algorithm: str, name: str, env: str) -> Preset:
    """Return the settings of a reference result.

    Args:
        algorithm: `"dqn"`.
        name: `"cleanrl"`, `"zoo"` and so on, see above.
        env: `"CartPole-v1"`; Gymnasium's own, `"gymnasium:CartPole-v1"`, has the same.

    Raises:
        ValueError: When there are none.

    >>> preset("dqn", "zoo", "CartPole-v1").config.hidden
    (256, 256)
    """
    of_algorithm = PRESETS.get(algorithm, {})
    instead = f"Presets are there for {', '.join(PRESETS)}."
    checks.require(bool(of_algorithm), "preset", "algorithm", "be one that has presets", algorithm, instead)
    env = env.rpartition(":")[2]
    fitting = [own for own, by_env in of_algorithm.items() if env in by_env]
    others = [other for other, named in PRESETS.items() if env in named.get(name, {})]
    if name not in fitting:
        instead = f"For {algorithm} on {env} there is {' and '.join(fitting) or 'none'}."
        instead = f"{checks.did_you_mean(name, fitting)} {instead}".lstrip()
        if others:
            instead += f" {name} is there for {' and '.join(others)}."
        checks.require(False, "preset", "name", f"be a preset of {algorithm} for {env}", name, instead)
    num_steps, settings = of_algorithm[name][env]
    return Preset(algos.REGISTRY[algorithm].Config(**settings), num_steps)
