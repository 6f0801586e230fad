"""A robot learns to find its goal among obstacles from images, and is tested on layouts it never saw.

python examples/grid_navigation.py [--seeds 4] [--steps 3000000] [--out grid_navigation.png]

Every episode has a layout of its own, drawn from its key. Success is measured on layouts from other
keys than those of the training, by the greedy policy, which explores nothing.
"""

from __future__ import annotations
