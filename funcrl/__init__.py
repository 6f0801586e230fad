"""Deep reinforcement learning as pure functions of pytrees: `update(state, batch) -> state`."""

import gymnasium

__version__ = "0.1.0"

# Names and time limits stand here so that importing funcrl stays quick; `funcrl.envs.REGISTRY` has
# the environments themselves, and a test holds the two together.
_TIME_LIMITS: dict[str, int | None] = {
    "Acrobot-v1": 500,
    "Asterix-MinAtar": 5000,
    "BernoulliBandit-v0": None,
    "Blackjack-v1": None,
    "Breakout-MinAtar": 5000,
    "CartPole-v1": 500,
    "CliffWalking-v1": None,
    "CliffWalkingSlippery-v1": None,
    "Corridor-v0": 100,
    "DigitsBandit-v0": None,
    "DriftingBandit-v0": None,
    "Driving-v0": 500,
    "Freeway-MinAtar": 5000,
    "FrozenLake-v1": 100,
    "FrozenLake8x8-v1": 200,
    "GaussianBandit-v0": None,
    "GridNavigation-v0": 32,
    "MountainCar-v0": 200,
    "MountainCarContinuous-v0": 999,
    "Pendulum-v1": 200,
    "PositionOnlyCartPole-v0": 500,
    "RepeatFirst-v0": 100,
    "Seaquest-MinAtar": 5000,
    "SpaceInvaders-MinAtar": 5000,
    "TMaze-v0": 100,
    "Taxi-v3": 200,
    "Taxi-v4": 200,
}

for _name, _limit in _TIME_LIMITS.items():
    gymnasium.register(
        id=f"funcrl/{_name}",
        entry_point="funcrl.envs.single:make_single",
        vector_entry_point="funcrl.envs.vector:make_vector",
        max_episode_steps=_limit,
        # Gymnasium's passive checker takes numpy arrays only; `funcrl.envs.check_env` checks more.
        disable_env_checker=True,
        kwargs={"name": _name},
    )
