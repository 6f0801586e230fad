"""Environments on the device: pure functions of a state, an action and a key."""

from funcrl.envs.acrobot import Acrobot
from funcrl.envs.blackjack import Blackjack
from funcrl.envs.cartpole import CartPole
from funcrl.envs.cliff_walking import CliffWalking
from funcrl.envs.corridor import Corridor
from funcrl.envs.frozen_lake import FrozenLake
from funcrl.envs.grid_navigation import GridNavigation
from funcrl.envs.mountain_car import MountainCar
from funcrl.envs.mountain_car_continuous import MountainCarContinuous
from funcrl.envs.pendulum import Pendulum
from funcrl.envs.registry import REGISTRY, make
from funcrl.envs.stepping import Env, EnvState, advance, reset, reset_all, restart, step, step_all
from funcrl.envs.taxi import Taxi

__all__ = [
    "REGISTRY",
    "Acrobot",
    "Blackjack",
    "CartPole",
    "CliffWalking",
    "Corridor",
    "Env",
    "EnvState",
    "FrozenLake",
    "GridNavigation",
    "MountainCar",
    "MountainCarContinuous",
    "Pendulum",
    "Taxi",
    "advance",
    "make",
    "reset",
    "reset_all",
    "restart",
    "step",
    "step_all",
]
