"""Algorithms: one paper a file, each a module with the same few pure functions."""

from funcrl.algos import ppo

__all__ = ["ppo"]
