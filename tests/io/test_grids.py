"""Grids as text and pictures, plans as files, and the curve of regret."""

import csv
import json

import pytest
import torch

from funcrl import envs
from funcrl.io import draw_grid, grid_picture, grid_text, is_grid, learning_curve, regret_curve, write_plan
from funcrl.train import solve, train
from tests.cli.conftest import paint_quickly

LAKE = envs.make("FrozenLake-v1", desc=("SF", "HG"), is_slippery=False)


def test_a_grid_shows_values_arrows_and_where_it_ends():
    values = torch.tensor([0.5, 1.0, 7.0, 7.0])
    policy = torch.tensor([[0, 0, 1, 0], [0, 0.5, 0, 0.5], [1, 0, 0, 0], [1, 0, 0, 0.0]])
    lines = grid_text(LAKE, values, policy).splitlines()
    assert lines == ["values", "  0.50 1.00", "     H    G", "policy", "   → ↓↑", "   H  G"]


def test_grids_are_what_has_a_map_and_arrows():
    assert is_grid(LAKE)
    assert is_grid(envs.make("CliffWalking-v1"))
    assert not is_grid(envs.make("Taxi-v3"))
    assert not is_grid(None)


@pytest.mark.parametrize("name", ["CliffWalking-v1", "FrozenLake-v1", "FrozenLake8x8-v1"])
def test_arrows_point_where_actions_lead(name):
    """On ice that does not slip, the cell that an arrow points at is the one that follows."""
    env = envs.make(name, is_slippery=False)
    columns = len(env.map[0])
    # A cell from which all four moves stay on the grid and lead on.
    inside = (c for c in range(columns + 1, 2 * columns - 1) if "".join(env.map)[c] == "F")
    cell = next(inside)
    for action, arrow in enumerate(env.arrows):
        expected = cell + {"↑": -columns, "→": 1, "↓": columns, "←": -1}[arrow]
        assert int(env.outcomes(torch.tensor(cell), torch.tensor(action)).position[0]) == expected


def test_the_map_shows_start_cliff_and_goal():
    env = envs.make("CliffWalking-v1")
    letters = "".join(env.map)
    assert len(letters) == env.num_states
    assert letters.index("S") == int(env.initial_distribution().argmax())
    for cell, letter in enumerate(letters):
        if cell + 12 < 48 and letter == "F":
            below = env.outcomes(torch.tensor(cell), torch.tensor(2))
            assert (float(below.reward[0]) == -100.0) == (letters[cell + 12] == "C")
            assert bool(below.terminated[0]) == (letters[cell + 12] == "G")


def test_pictures_are_drawn(tmp_path):
    solution = solve("value_iteration", LAKE)
    grid_picture(LAKE, solution.values[0], solution.policy[0], "a lake", tmp_path / "lake.png")
    assert (tmp_path / "lake.png").read_bytes().startswith(b"\x89PNG")


def test_a_path_is_drawn_from_cell_to_cell():
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    draw_grid(axes, LAKE, torch.zeros(4), path=[0, 1, 3])
    line = next(line for line in axes.get_lines() if len(line.get_xdata()) == 3)
    assert line.get_xdata().tolist() == [0, 1, 1]
    assert line.get_ydata().tolist() == [0, 0, 1]


def test_a_plan_is_a_tidy_table(tmp_path):
    solution = solve("policy_iteration", LAKE)
    (tmp_path / "plan.png").write_text("of an earlier plan")
    assert write_plan(tmp_path, {"gamma": 0.99}, solution) == ["config.json", "values.csv"]
    assert json.loads((tmp_path / "config.json").read_text()) == {"gamma": 0.99}
    assert not (tmp_path / "plan.png").exists()
    with open(tmp_path / "values.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 4
    for i, row in enumerate(rows):
        state, action = divmod(i, 4)
        assert (int(row["state"]), int(row["action"])) == (state, action)
        assert float(row["value"]) == pytest.approx(float(solution.values[0, state]))
        assert float(row["action_value"]) == pytest.approx(float(solution.action_values[0, state, action]))
        assert float(row["probability"]) == pytest.approx(float(solution.policy[0, state, action]))


def test_the_curve_of_regret_shows_the_mean_and_the_bound(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    drawn = []
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda self, *a, **k: drawn.append((a, k)) or plot(self, *a, **k))
    paint_quickly(monkeypatch)
    result = train("ucb", "bernoulli", seeds=range(4), num_steps=300, backend="aot_eager")
    result.metrics["cumulative_regret"][:] = torch.tensor([0.0, 1.0, 2.0, 13.0])[:, None]
    regret_curve(result, "a title", tmp_path / "curve.png", lower_bound=2.0)
    (center,) = (a[1] for a, k in drawn if "mean of" in k.get("label", ""))
    (bound,) = (a[1] for a, k in drawn if "Robbins" in k.get("label", ""))
    assert center.tolist() == [4.0] * 3
    assert bound.tolist() == pytest.approx((2.0 * torch.log(torch.tensor([100.0, 200.0, 300.0]))).tolist())
    drawn.clear()
    learning_curve(result, "a title", tmp_path / "returns.png")
    assert not any("Robbins" in k.get("label", "") for _, k in drawn)
