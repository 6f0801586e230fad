"""What funcrl knows of Gymnasium's spaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces

KINDS = (
    spaces.Box,
    spaces.Discrete,
    spaces.MultiDiscrete,
    spaces.MultiBinary,
    spaces.Tuple,
    spaces.Dict,
)
"""of observations and actions"""


def dtype(space: spaces.Space[Any]) -> torch.dtype:
    """Return torch's dtype of the elements of a space that is neither `Dict` nor `Tuple`.

    >>> dtype(spaces.Discrete(2))
    torch.int64
    """
    return torch.from_numpy(np.empty((), space.dtype)).dtype
