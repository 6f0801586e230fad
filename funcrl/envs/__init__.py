"""Environments on the device: pure functions of a state, an action and a key."""

from funcrl.data import LabelledImages, digits
from funcrl.envs import minatar
from funcrl.envs.acrobot import Acrobot
from funcrl.envs.bernoulli_bandit import BernoulliBandit
from funcrl.envs.blackjack import Blackjack
from funcrl.envs.cartpole import CartPole
from funcrl.envs.checking import check_env
from funcrl.envs.classification_bandit import ClassificationBandit
from funcrl.envs.cliff_walking import CliffWalking
from funcrl.envs.corridor import Corridor
from funcrl.envs.driving import Driving
from funcrl.envs.flattening import FlattenObservation, OneHotObservation
from funcrl.envs.frozen_lake import FrozenLake, random_map
from funcrl.envs.gaussian_bandit import GaussianBandit
from funcrl.envs.grid_navigation import GridNavigation
from funcrl.envs.host import HostEnv, from_gymnasium
from funcrl.envs.host_checks import HostError
from funcrl.envs.host_vector import HostVector
from funcrl.envs.masks import MaskActions
from funcrl.envs.mountain_car import MountainCar
from funcrl.envs.mountain_car_continuous import MountainCarContinuous
from funcrl.envs.naming import WRAPPERS, from_words
from funcrl.envs.normalisation import (
    NormalizeObservation,
    NormalizeReward,
    frozen,
    normalizes_observations,
)
from funcrl.envs.pendulum import Pendulum
from funcrl.envs.position_cartpole import PositionOnlyCartPole
from funcrl.envs.registry import ALIASES, REGISTRY, full_name, make
from funcrl.envs.repeat_first import RepeatFirst
from funcrl.envs.stepping import (
    Env,
    EnvState,
    advance,
    reset,
    reset_all,
    restart,
    restart_all,
    step,
    step_all,
)
from funcrl.envs.t_maze import TMaze
from funcrl.envs.taxi import Taxi
from funcrl.envs.vector import TorchVectorEnv
from funcrl.envs.wrappers import (
    FrameStack,
    RepeatAction,
    ScaleReward,
    TimeLimit,
    innermost,
)

AnyEnv = Env | HostEnv
"""an environment on the device, or one on the host"""

__all__ = [
    "ALIASES",
    "REGISTRY",
    "WRAPPERS",
    "Acrobot",
    "AnyEnv",
    "BernoulliBandit",
    "Blackjack",
    "CartPole",
    "ClassificationBandit",
    "CliffWalking",
    "Corridor",
    "Driving",
    "Env",
    "EnvState",
    "FlattenObservation",
    "FrameStack",
    "FrozenLake",
    "GaussianBandit",
    "GridNavigation",
    "HostEnv",
    "HostError",
    "HostVector",
    "LabelledImages",
    "MaskActions",
    "MountainCar",
    "MountainCarContinuous",
    "NormalizeObservation",
    "NormalizeReward",
    "OneHotObservation",
    "Pendulum",
    "PositionOnlyCartPole",
    "RepeatAction",
    "RepeatFirst",
    "ScaleReward",
    "TMaze",
    "Taxi",
    "TimeLimit",
    "TorchVectorEnv",
    "advance",
    "check_env",
    "digits",
    "from_gymnasium",
    "from_words",
    "frozen",
    "full_name",
    "innermost",
    "make",
    "minatar",
    "normalizes_observations",
    "random_map",
    "reset",
    "reset_all",
    "restart",
    "restart_all",
    "step",
    "step_all",
]
