"""The five games of MinAtar against the package, both with the same random choices."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from funcrl import envs
from funcrl.core import jit, random, tree
from funcrl.envs import minatar

GAMES = {
    "asterix": minatar.Asterix,
    "breakout": minatar.Breakout,
    "freeway": minatar.Freeway,
    "seaquest": minatar.Seaquest,
    "space_invaders": minatar.SpaceInvaders,
}
every_game = pytest.mark.parametrize("name", GAMES)
LANES, STEPS = 40, 125
MORE = {"seaquest": (50, 200)}  # what happens there is rarer


def package_game(name, **settings):
    """The package's own, without seaborn, which it draws with: that and pandas take longer to import than a game to play."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "seaborn", ModuleType("seaborn"))
        from minatar import Environment

    return Environment(name, **settings)


class Prepared:
    """Stands in for numpy's RandomState, and hands out what it was given."""

    def give(self, numbers):
        self.numbers = list(numbers)

    def rand(self, count=None):
        return self._next() if count is None else np.array([self._next() for _ in range(count)])

    def randint(self, low, high=None, size=None):
        low, high = (0, low) if high is None else (low, high)
        drawn = [low + int(self._next() * (high - low)) for _ in range(size or 1)]
        return np.array(drawn) if size else drawn[0]

    def _next(self):
        return self.numbers.pop(0)


class Theirs:
    """A game of the package that makes given choices."""

    def __init__(self, name, **settings):
        self.game = package_game(name, **settings)
        self.choices = self.game.random = self.game.env.random = Prepared()

    def reset(self, choices):
        self.choices.give(choices[1:])
        self.game.reset()
        self.game.last_action = 0

    def act(self, action, choices):
        sticks, *own = choices
        if self.game.env_name == "seaquest":  # it makes the choices of what is due, no others
            due = self.game.env.e_spawn_timer == 0, self.game.env.d_spawn_timer == 0
            own = own[:3] * due[0] + own[3:] * due[1]
        self.choices.give([sticks, *own])
        return self.game.act(action)


def player(game, draw):
    """Return an action that gets further than chance: steps that are too rare at random are seen too."""
    if draw.rand() < 0.2:
        return draw.randint(6)
    env = game.env
    if game.env_name == "breakout":
        ahead = env.ball_x + (1 if env.ball_dir in (1, 2) else -1)
        return minatar.game.LEFT if ahead < env.pos else minatar.game.RIGHT if ahead > env.pos else 0
    if game.env_name == "freeway":
        return minatar.game.UP
    if game.env_name == "space_invaders":
        return draw.choice([minatar.game.FIRE, minatar.game.LEFT, minatar.game.RIGHT])
    if game.env_name == "asterix":
        return draw.randint(5)
    return diver(env, draw)


def diver(env, draw):
    """Seek divers, shoot at what is in the row, and come up before there is no air."""
    here = (env.sub_x, env.sub_y)
    others = [x for x in env.e_fish + env.e_subs if x[1] == here[1]]
    if others and env.shot_timer == 0:
        to_right = others[0][0] > here[0]
        return minatar.game.FIRE if to_right == env.sub_or else (3 if to_right else 1)
    if env.diver_count != 0 and (env.oxygen < 60 or draw.rand() < 0.3):
        return minatar.game.UP
    if not env.divers:
        return minatar.game.DOWN if here[1] < 4 else draw.randint(6)
    nearest = min(env.divers, key=lambda x: abs(x[0] - here[0]) + abs(x[1] - here[1]))
    if nearest[1] != here[1]:
        return minatar.game.UP if nearest[1] < here[1] and here[1] > 1 else minatar.game.DOWN
    return minatar.game.LEFT if nearest[0] < here[0] else minatar.game.RIGHT


@every_game
def test_five_thousand_steps_are_those_of_the_package(name):
    env, draw = GAMES[name](minimal_actions=False), np.random.RandomState(0)
    num_lanes, num_steps = MORE.get(name, (LANES, STEPS))
    games = [Theirs(name) for _ in range(num_lanes)]
    initial, draws = torch.vmap(env.initial), torch.vmap(env.choices)

    def all_of_it(state, actions, keys, first_keys):
        after = torch.vmap(env.transition)(state, actions, keys)
        image = torch.vmap(lambda state: env.observation(state, None))(after)
        begins = torch.vmap(tree.where)(after.over, initial(first_keys), after)
        return after, image, draws(keys), draws(first_keys), begins

    # Recorded once: each of the games is hundreds of operations.
    step = jit.jit(all_of_it, backend="aot_eager")
    k_first, *keys = random.split(random.key(0), 1 + num_steps)
    first = random.split(k_first, num_lanes)
    state = tree.map(torch.Tensor.contiguous, initial(first))
    for game, choices in zip(games, draws(first).tolist(), strict=True):
        game.reset(choices)
    ends, earned = 0, 0
    for key in keys:
        actions = [player(game.game, draw) for game in games]
        both = (random.split(k, num_lanes) for k in random.split(key, 2))
        after, looks, choices_now, first_choices, state = step(state, torch.tensor(actions), *both)
        given = zip(games, actions, choices_now.tolist(), strict=True)
        found = [game.act(action, choices) for game, action, choices in given]
        assert after.earned.tolist() == [reward for reward, _ in found]
        assert after.over.tolist() == [over for _, over in found]
        images = np.stack([game.game.state() for game in games])
        assert np.array_equal(looks.numpy(), images.astype(np.float32))
        ends, earned = ends + sum(over for _, over in found), earned + sum(r for r, _ in found)
        for lane in after.over.nonzero().flatten().tolist():
            games[lane].reset(first_choices[lane].tolist())
    assert earned > 20
    assert ends > 20 or name == "freeway"


@every_game
def test_actions_spaces_and_names_are_those_of_the_package(name):
    theirs = package_game(name)
    env = envs.make({"space_invaders": "SpaceInvaders"}.get(name, name.title()) + "-MinAtar")
    assert isinstance(env, GAMES[name])
    assert list(env.actions) == theirs.minimal_action_set()
    assert list(env.observation_space.shape) == theirs.state_shape()
    assert tree.replace(env, minimal_actions=False).action_space.n == 6


def test_a_minimal_action_is_the_one_of_the_full_set_and_may_stick():
    full, few = minatar.SpaceInvaders(minimal_actions=False), minatar.SpaceInvaders(sticky_probability=0.0)
    state = few.initial(random.key(0))
    for place, number in enumerate(few.actions):
        by_place = few.transition(state, torch.tensor(place), random.key(1))
        assert int(by_place.last_action) == number
        same = tree.replace(full, sticky_probability=0.0).transition(
            state, torch.tensor(number), random.key(1)
        )
        assert torch.equal(few.observation(by_place, None), full.observation(same, None))
    always = tree.replace(few, sticky_probability=1.0)
    assert int(always.transition(state, torch.tensor(3), random.key(1)).last_action) == 0


def test_without_ramping_a_game_stays_as_it_is():
    env = minatar.Asterix(difficulty_ramping=False)
    state = env.initial(random.key(0))
    late = tree.replace(state, board=tree.replace(state.board, ramp_timer=torch.tensor(-1)))
    for game, harder in ((env, 10), (minatar.Asterix(), 9)):
        after = game.transition(late, torch.tensor(0), random.key(1))
        assert int(after.board.spawn_interval) == harder


def test_freeway_ends_after_2501_steps():
    env = minatar.Freeway()
    state = env.initial(random.key(0))
    state = tree.replace(state, board=tree.replace(state.board, time=torch.tensor(1)))
    over = []
    for key in random.split(random.key(1), 2):
        state = env.transition(state, torch.tensor(0), key)
        over.append(bool(state.over))
    assert over == [False, True]


@every_game
def test_pictures_have_the_colours_of_what_is_there(name):
    env = GAMES[name]()
    state = env.initial(random.key(0))
    picture = env.render(state)
    assert picture.shape == (480, 480, 3)
    for channel, row, column in env.observation(state, None).permute(2, 0, 1).nonzero().tolist()[-3:]:
        colour = minatar.game.COLORS[channel]
        expected = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert picture[48 * row + 24, 48 * column + 24].tolist() == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sticky_probability": 1.5}, "Breakout: sticky_probability must"),
        ({"sticky_probability": -0.1}, "Breakout: sticky_probability must"),
        ({"minimal_actions": "left"}, "Breakout: minimal_actions must be True or False, got 'left'"),
        ({"difficulty_ramping": 1}, "Breakout: difficulty_ramping must be True or False, got 1"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        envs.make("Breakout-MinAtar", **settings)


def test_a_game_that_is_not_there_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="Breakout-MinAtar"):
        envs.make("Brekout-MinAtar")
