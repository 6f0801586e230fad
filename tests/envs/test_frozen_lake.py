"""FrozenLake against Gymnasium's own, table for table and step for step."""

import gymnasium
import pytest
import torch
from gymnasium.envs.toy_text.frozen_lake import generate_random_map

from funcrl import envs
from funcrl.core import random
from funcrl.envs import drawing, tabular
from funcrl.envs.frozen_lake import FrozenLake, random_map
from funcrl.envs.scenes import maps
from tests.envs import classic, own
from tests.envs import tabular_parity as parity

TWO_STARTS = ("SFHFS", "FFFGF", "HSFFH")
VARIANTS = {
    "4x4": {},
    "8x8": {"map_name": "8x8"},
    "not slippery": {"is_slippery": False},
    "not slippery 8x8": {"is_slippery": False, "map_name": "8x8"},
    "success": {"success_rate": 0.8},
    "certain": {"success_rate": 1.0},
    "never": {"success_rate": 0.0},
    "own map": {"desc": TWO_STARTS, "map_name": None},
    "own map first": {"desc": TWO_STARTS, "map_name": "8x8", "is_slippery": False},
    "random map": {"desc": random_map(6, 0.7, seed=3)},
}


def make_reference(goal=1.0, hole=0.0, frozen=0.0, max_episode_steps=None, **params):
    name = "FrozenLake8x8-v1" if params.get("map_name") == "8x8" and "desc" not in params else "FrozenLake-v1"
    schedule = (goal, hole, frozen)
    return gymnasium.make(name, reward_schedule=schedule, max_episode_steps=max_episode_steps, **params)


@pytest.mark.parametrize("variant", VARIANTS)
def test_table_and_surroundings_are_gymnasiums(variant):
    env, reference = FrozenLake(**VARIANTS[variant]), make_reference(**VARIANTS[variant])
    parity.assert_surroundings_are_gymnasiums(env, reference)
    parity.assert_table_is_gymnasiums(env, reference)


@pytest.mark.parametrize("is_slippery", [False, True])
def test_the_rewards_of_the_tiles_are_gymnasiums(is_slippery):
    env = FrozenLake(goal_reward=5.0, hole_reward=-2.0, frozen_reward=-0.25, is_slippery=is_slippery)
    reference = make_reference(5.0, -2.0, -0.25, is_slippery=is_slippery)
    parity.assert_table_is_gymnasiums(env, reference)


@pytest.mark.parametrize("variant", ["4x4", "8x8", "not slippery", "success", "own map"])
def test_random_steps_are_gymnasiums(variant):
    params = VARIANTS[variant]
    env = FrozenLake(**params, max_episode_steps=12)
    reference = make_reference(**params, max_episode_steps=12)
    count, terminated, truncated = parity.assert_steps_are_gymnasiums(
        env, reference, num_envs=120, num_steps=60
    )
    assert count >= 7000
    assert terminated > 50
    assert truncated > 50


@pytest.mark.parametrize(("map_name", "limit"), [("4x4", 100), ("8x8", 200)])
def test_who_stays_at_the_border_is_truncated_at_the_limit_of_the_map(map_name, limit):
    env = FrozenLake(map_name=map_name, is_slippery=False)
    step = lambda s: envs.step(env, s, torch.tensor(0), random.key(0))
    state = envs.reset(env, random.key(0))
    for _ in range(limit - 1):
        state, row = step(state)
        assert not row.truncated
    _, row = step(state)
    assert row.truncated
    assert not row.terminated
    assert int(row.next_obs) == 0


def test_the_time_limit_is_that_of_the_map_unless_another_is_given():
    assert FrozenLake().max_episode_steps == 100
    assert FrozenLake(map_name="8x8").max_episode_steps == 200
    assert FrozenLake(map_name="8x8", desc=TWO_STARTS).max_episode_steps == 100
    assert FrozenLake(max_episode_steps=7).max_episode_steps == 7
    assert FrozenLake(map_name="8x8", max_episode_steps=None).max_episode_steps is None


@pytest.mark.parametrize("variant", ["4x4", "success", "certain", "never", "own map"])
def test_slips_have_the_stated_frequencies(variant):
    parity.assert_draws_have_the_stated_frequencies(FrozenLake(**VARIANTS[variant]))


@pytest.mark.parametrize("variant", ["4x4", "own map"])
def test_beginnings_have_the_stated_frequencies(variant):
    parity.assert_beginnings_have_the_stated_frequencies(FrozenLake(**VARIANTS[variant]))


@pytest.mark.parametrize("variant", ["4x4", "8x8", "not slippery", "own map"])
def test_compiled_equals_eager_and_stays_on_the_device(variant):
    env = FrozenLake(**VARIANTS[variant])
    parity.assert_compiled_is_eager(env)
    parity.assert_everything_stays_on_the_device(env)


@pytest.mark.parametrize("variant", ["4x4", "not slippery", "own map"])
def test_numbers_can_differ_between_lanes(variant):
    env = FrozenLake(**VARIANTS[variant])
    parity.assert_numbers_can_differ(env, FrozenLake(0.7, 2.0, -1.0, -0.5, **VARIANTS[variant]))


@pytest.mark.parametrize(("size", "probability"), [(2, 0.8), (4, 0.8), (8, 0.8), (8, 0.55), (5, 1.0)])
def test_random_maps_are_gymnasiums(size, probability):
    for seed in range(20):
        ours = random_map(size, probability, seed=seed)
        assert list(ours) == generate_random_map(size, probability, seed=seed)


def test_random_maps_differ_and_can_be_solved():
    maps = {random_map(8, 0.6, seed=seed) for seed in range(20)}
    assert len(maps) == 20
    for desc in maps:
        table = parity.table_of(FrozenLake(desc=desc))
        reached = {0}
        for _ in range(64):
            reached |= {s for begin in reached for a in range(4) for s, _, _ in table[begin, a]}
        assert 63 in reached


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((1, 0.8, 0), ValueError),
        ((4.0, 0.8, 0), TypeError),
        ((4, 1.2, 0), ValueError),
        ((4, 0.8, -1), ValueError),
        ((4, 0.0, 0), ValueError),
    ],
)
def test_impossible_random_maps_are_refused(arguments, error):
    with pytest.raises(error, match="random_map: "):
        random_map(*arguments)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"success_rate": 1.1}, ValueError, r"success_rate must lie in \[0, 1\]"),
        ({"success_rate": -0.1}, ValueError, r"success_rate must lie in \[0, 1\]"),
        ({"goal_reward": float("nan")}, ValueError, "goal_reward must "),
        ({"is_slippery": "yes"}, TypeError, "is_slippery must be True or False"),
        ({"max_episode_steps": -1}, ValueError, "max_episode_steps must "),
        ({"map_name": "5x5"}, ValueError, "map_name must be one of '4x4', '8x8', got '5x5'"),
        ({"map_name": None}, ValueError, "map_name must be .* Write desc="),
        ({"desc": ["SFF", "FG"]}, ValueError, "desc must be a tuple of strings"),
        ({"desc": "SFFG"}, ValueError, "desc must be a tuple of strings"),
        ({"desc": ()}, ValueError, "desc must be a tuple of strings"),
        ({"desc": ("", "")}, ValueError, "desc must be a tuple of strings of one length"),
        ({"desc": ("SFF", "FG")}, ValueError, "desc must be a tuple of strings of one length"),
        ({"desc": ("SX", "FG")}, ValueError, "desc must hold only the letters S, F, H and G, got 'X'"),
        ({"desc": ("FF", "FG")}, ValueError, "desc must hold a S"),
        ({"desc": ("SF", "FF")}, ValueError, "desc must hold a G"),
    ],
)
def test_impossible_parameters_are_refused(params, error, message):
    with pytest.raises(error, match=f"FrozenLake: {message}"):
        FrozenLake(**params)


def test_a_map_may_be_a_list_as_gymnasiums_are():
    assert FrozenLake(desc=["SF", "FG"]) == FrozenLake(desc=("SF", "FG"))


def test_pictures_show_the_agent_where_it_is():
    env = FrozenLake(desc=TWO_STARTS, max_episode_steps=None)
    places = [tabular.begin(torch.tensor(position)) for position in range(env.num_states)]
    own.assert_pictures(env, places)
    for position, place in enumerate(places):
        columns, rows = classic.pixels(env.render(place), drawing.BLUE)
        row, column = divmod(position, 5)
        assert columns.mean() / 120 - 0.08 == pytest.approx(column + 0.5, abs=0.15)
        assert rows.mean() / 120 - 0.08 == pytest.approx(row + 0.5, abs=0.3)


@pytest.mark.parametrize("desc", [FrozenLake().map, FrozenLake(map_name="8x8").map, TWO_STARTS])
def test_pictures_show_the_holes_and_the_goal(desc):
    env = FrozenLake(desc=desc)
    frame = env.render(env.initial(random.key(0)))
    rows, columns = len(desc), len(desc[0])
    cell = frame.shape[1] / (columns + 0.16)
    assert frame.shape[0] == pytest.approx(cell * (rows + 0.16), abs=1)
    for color, letter, where in ((maps._WATER, "H", 0.5), (drawing.GREEN, "G", 0.35)):
        found = (frame == [int(color[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=2)
        for row in range(rows):
            for column in range(columns):
                y, x = int(cell * (row + 0.08 + where)), int(cell * (column + 0.58))
                assert found[y, x] == (desc[row][column] == letter), (row, column, letter)


def test_a_large_map_makes_no_larger_picture():
    env = FrozenLake(desc=random_map(60, 0.9, seed=0))
    assert max(env.render(env.initial(random.key(0))).shape) <= 740
