"""Environments on the device: pure functions of a state, an action and a key."""

from funcrl.envs.cartpole import CartPole
from funcrl.envs.registry import REGISTRY, make
from funcrl.envs.stepping import Env, EnvState, reset, step

__all__ = ["REGISTRY", "CartPole", "Env", "EnvState", "make", "reset", "step"]
