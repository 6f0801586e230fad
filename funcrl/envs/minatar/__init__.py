"""The five games of MinAtar on the device: 10 x 10 cells, a channel for each kind of thing.

Young & Tian 2019, "MinAtar: an Atari-inspired testbed for thorough and reproducible reinforcement learning experiments".
"""

from funcrl.envs.minatar.asterix import Asterix
from funcrl.envs.minatar.breakout import Breakout
from funcrl.envs.minatar.freeway import Freeway
from funcrl.envs.minatar.game import Game, Played
from funcrl.envs.minatar.seaquest import Seaquest
from funcrl.envs.minatar.space_invaders import SpaceInvaders

__all__ = ["Asterix", "Breakout", "Freeway", "Game", "Played", "Seaquest", "SpaceInvaders"]
