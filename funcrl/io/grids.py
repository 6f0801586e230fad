"""Values and policies of environments whose states are the cells of a grid, as text and as pictures.

Such an environment has `map`, its cells by letter, one string a row, and `arrows`, where each action
points: `CliffWalking` and `FrozenLake` have them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from funcrl.io.plots import picture

_ENDS = "CGH"
"""cells on which nobody stands for long: cliff, goal and hole"""
_COLOURS = {"C": "#3c4049", "H": "#3c4049", "G": "#2f8f4e"}
_DIRECTIONS = {"↑": (0.0, -1.0), "→": (1.0, 0.0), "↓": (0.0, 1.0), "←": (-1.0, 0.0)}


def is_grid(env: object) -> bool:
    """Return whether the states of an environment are the cells of a grid."""
    return hasattr(env, "map") and hasattr(env, "arrows")


def grid_text(env: Any, values: Tensor, policy: Tensor) -> str:
    """Write the value of each cell and the arrows of the policy, several where they are equally good.

    Args:
        env: An environment with `map` and `arrows`.
        values: `[S]`.
        policy: `[S, A]` probabilities.

    Returns:
        Two tables, a line a row of the grid. Cells in which an episode cannot go on show their letter.
    """
    letters = "".join(env.map)
    numbers = [f"{value:.2f}" for value in values.tolist()]
    arrows = ["".join(_arrows(env, row)) for row in policy]
    lines = ["values"]
    for shown in (numbers, arrows):
        cells = [letter if letter in _ENDS else text for letter, text in zip(letters, shown, strict=True)]
        width = max(map(len, cells))
        columns = len(env.map[0])
        lines += ["  " + " ".join(f"{cell:>{width}}" for cell in row) for row in _rows(cells, columns)]
        lines += ["policy"] if shown is numbers else []
    return "\n".join(lines)


def _arrows(env: Any, probabilities: Tensor) -> list[str]:
    return [arrow for arrow, p in zip(env.arrows, probabilities.tolist(), strict=True) if p > 1e-6]


def _rows(cells: list[str], columns: int) -> list[list[str]]:
    return [cells[begin : begin + columns] for begin in range(0, len(cells), columns)]


def grid_picture(env: Any, values: Tensor, policy: Tensor, title: str, path: str | Path) -> None:
    """Draw the value of each cell in colour and number, and the arrows of the policy.

    Args:
        env: An environment with `map` and `arrows`.
        values: `[S]`.
        policy: `[S, A]` probabilities.
        title: What it is.
        path: Picture to write; its ending says the format.

    Raises:
        ModuleNotFoundError: Without matplotlib, which `pip install "funcrl[cli]"` brings.
    """
    rows, columns = len(env.map), len(env.map[0])
    with picture(path, (max(6.5, 0.75 * columns + 1.2), 0.75 * rows + 0.9)) as axes:
        draw_grid(axes, env, values, policy)
        axes.set_title(title, loc="left", fontweight="bold")


def draw_grid(
    axes: Any, env: Any, values: Tensor, policy: Tensor | None = None, path: list[int] | None = None
) -> None:
    """Draw a grid on axes: values by colour, the arrows of a policy or a walk from cell to cell.

    Args:
        axes: Of matplotlib.
        env: An environment with `map` and `arrows`.
        values: `[S]`, NaN where there is none.
        policy: `[S, A]` probabilities; drawn as arrows, together with the numbers of the values.
        path: Cells in the order in which they are walked on; drawn as a line.
    """
    rows, columns = len(env.map), len(env.map[0])
    letters = "".join(env.map)
    ends = torch.tensor([letter in _ENDS for letter in letters], dtype=torch.bool, device="cpu")
    shown = values.detach().cpu().to(torch.float64).masked_fill(ends, torch.nan)
    axes.imshow(shown.reshape(rows, columns).numpy(), cmap="YlGnBu_r", alpha=0.55, aspect="equal")
    for cell, letter in enumerate(letters):
        row, column = divmod(cell, columns)
        if letter in _ENDS:
            square = {"extent": (column - 0.5, column + 0.5, row + 0.5, row - 0.5), "vmin": 0, "vmax": 1}
            axes.imshow([[1.0]], cmap=_plain(_COLOURS[letter]), **square)
        if letter != "F":
            axes.text(column, row + 0.42, letter, ha="center", va="bottom", color=_on(letter), fontsize=8)
        if letter not in _ENDS and policy is not None:
            axes.text(column, row - 0.33, _short(float(values[cell])), ha="center", va="center", fontsize=7)
            for arrow in _arrows(env, policy[cell]):
                right, down = _DIRECTIONS[arrow]
                head = {
                    "head_width": 0.13,
                    "head_length": 0.11,
                    "length_includes_head": True,
                    "color": "black",
                }
                axes.arrow(column, row + 0.08, 0.27 * right, 0.27 * down, width=0.015, **head)
    if path is not None:
        places = [divmod(cell, columns) for cell in path]
        axes.plot([c for _, c in places], [r for r, _ in places], color="#d1495b", linewidth=2.5)
        axes.plot(places[0][1], places[0][0], "o", color="#d1495b")
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _plain(colour: str) -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap([colour])


def _on(letter: str) -> str:
    return "white" if letter in _ENDS else "black"
