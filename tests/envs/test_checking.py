"""One correct environment, and one that is broken in a single place for everything that is checked."""

import dataclasses
import math
import random as python_random
import re
import time

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from funcrl import envs
from funcrl.core import random, tree
from funcrl.envs.checking import check as checking
from funcrl.envs.checking import check_env, check_returns, walking
from funcrl.envs.host import from_gymnasium
from tests import probes


@tree.struct
class Water:
    """State of the ferry."""

    position: torch.Tensor
    steps: torch.Tensor


@tree.struct
class Ferry:
    """Stays in the middle of a river while gusts push it about."""

    speed: float = 0.1
    gust: float = 0.1
    depth: torch.Tensor = torch.tensor([1.0, 2.0, 1.0])
    name: str = tree.static(default="ferry")
    max_episode_steps: int | None = tree.static(default=20)
    observation_space = spaces.Box(-1.5, 1.5, (1,), np.float32)
    action_space = spaces.Discrete(3)

    def initial(self, key):
        position = random.uniform(key, (), -0.5, 0.5)
        return Water(position, torch.zeros((), dtype=torch.int64, device=key.device))

    def transition(self, state, action, key):
        gust = random.uniform(key, (), -self.gust, self.gust)
        position = state.position + self.speed * (action - 1) + gust
        return Water(position.clamp(-1.4, 1.4), state.steps + 1)

    def observation(self, state, key):
        return state.position.reshape(1)

    def reward(self, state, action, next_state, key):
        return self.depth[action] - next_state.position.abs()

    def terminal(self, state, key):
        return state.position.abs() > 1.3


@tree.struct
class Wrapper:
    """Another environment with half the reward."""

    env: Ferry = Ferry()
    factor: float = 0.5
    observation_space = property(lambda self: self.env.observation_space)
    action_space = property(lambda self: self.env.action_space)
    max_episode_steps = property(lambda self: self.env.max_episode_steps)

    def initial(self, key):
        return self.env.initial(key)

    def transition(self, state, action, key):
        return self.env.transition(state, action, key)

    def observation(self, state, key):
        return self.env.observation(state, key)

    def reward(self, state, action, next_state, key):
        return self.factor * self.env.reward(state, action, next_state, key)

    def terminal(self, state, key):
        return self.env.terminal(state, key)


def broken(base=Ferry, /, **changes):
    """A ferry of the class Broken with other methods, attributes or values of fields."""
    names = {field.name for field in dataclasses.fields(base)}
    values = {name: changes.pop(name) for name in names & set(changes)}
    return tree.struct(type("Broken", (base,), changes))(**values)


BASE = Ferry()
CALLS: list[int] = []


def message(env, **kwargs):
    arguments = {"num_steps": 12, "backend": "eager"} | kwargs
    with pytest.raises((ValueError, TypeError)) as caught:
        check_env(env, **arguments)
    return caught.type, str(caught.value)


def expect(env, error, *parts, **kwargs):
    """The error must be one sentence that begins as the house says and holds all parts."""
    kind, text = message(env, **kwargs)
    assert kind is error, text
    assert "\n" not in text, text
    assert text.startswith("check_env: "), text
    for part in parts:
        assert part in text, text


@pytest.mark.parametrize(
    ("env", "kwargs"),
    [
        (BASE, {}),
        (Wrapper(), {"num_steps": 30}),
        (Ferry(max_episode_steps=None), {"num_steps": 30}),
        (Ferry(max_episode_steps=1), {"num_steps": 30}),
    ],
    ids=["base", "wrapper", "no limit", "one step"],
)
def test_correct_environments_pass(env, kwargs):
    assert check_env(env, **kwargs) is None


@pytest.mark.parametrize("env", [probes.Counter(), probes.Truncating(), probes.Delayed(), probes.Choice()])
def test_the_probes_pass(env):
    check_env(env, num_steps=30)


@pytest.mark.compiled
def test_cartpole_passes_with_the_real_compiler():
    check_env(envs.make("CartPole-v1"), num_steps=20, backend="inductor")


def test_cartpole_takes_less_than_five_seconds():
    began = time.process_time()
    check_env(envs.make("CartPole-v1"))
    assert time.process_time() - began < 5


# Methods, attributes and fields.


class Plain(Ferry):
    pass


def without(name):
    namespace = {key: value for key, value in vars(Ferry).items() if key != name and key[:2] != "__"}
    return tree.struct(type("Broken", (), namespace | {"__annotations__": Ferry.__annotations__}))()


@pytest.mark.parametrize(
    ("env", "parts"),
    [
        (Ferry, ["env must be an environment, got the class Ferry. Write Ferry()."]),
        ("CartPole-v1", ["got 'CartPole-v1'. Write envs.make('CartPole-v1')."]),
        (
            gymnasium.make("CartPole-v1"),
            [
                "got a TimeLimit, which Gymnasium runs on the host.",
                "envs.from_gymnasium('CartPole-v1') to train",
            ],
        ),
        (
            gymnasium.make_vec("CartPole-v1"),
            ["which Gymnasium runs on the host. Write gymnasium.utils.env_ch"],
        ),
        (from_gymnasium("CartPole-v1"), ["got a HostEnv, which Gymnasium runs on the host. Write gymnasium"]),
        (without("terminal"), ["Broken must have initial, transition,", "got one without terminal. Write"]),
        (without("action_space"), ["Broken must have", "got one without action_space. Write"]),
        (
            broken(reward=lambda self, state, action, key: 0),
            [
                "Broken.reward must take (state, action, next_state, key), got (state, action, key). ",
                "Write def reward(self, state, action, next_state, key).",
            ],
        ),
        (broken(initial=None), ["Broken.initial must be a method, got None."]),
        (Plain(), ["Plain must be a struct", "swept", "Write @tree.struct above class Plain"]),
        (
            broken(__annotations__={"mode": str}, mode="easy"),
            ["Broken.mode must be a number, a tensor or static, got 'easy'. Write mode: str = tree.static("],
        ),
        (
            Ferry(name=["a", "list"]),
            ["Ferry.name must be immutable where it is static, got ['a', 'list']. Write a tuple"],
        ),
        (
            Ferry(name=torch.ones(2)),
            ["Ferry.name must be immutable", "make it a tensor without tree.static"],
        ),
        (Ferry(speed=torch.tensor([0.1, 0.2])), ["Ferry.speed must be one number, got tensor([0.1"]),
        (Wrapper(env=Ferry(speed=(0.1, 0.2))), ["Wrapper.env.speed must be one number, got (0.1, 0.2)."]),
        (Ferry(max_episode_steps=2.0), ["Ferry.max_episode_steps must be an integer, got 2.0. Write 2."]),
    ],
)
def test_what_is_no_environment_is_refused(env, parts):
    expect(env, TypeError, *parts)


def test_a_time_limit_is_at_least_one():
    expect(Ferry(max_episode_steps=0), ValueError, "Ferry.max_episode_steps must be at least 1, got 0.")


# Spaces.


def box(change):
    space = spaces.Box(-1.5, 1.5, (1,), np.float32)
    change(space)
    return space


@pytest.mark.parametrize(
    ("name", "space", "parts"),
    [
        (
            "observation_space",
            spaces.Text(3),
            ["must be one of Box, Discrete, MultiDiscrete,", "Tuple, Dict"],
        ),
        ("observation_space", spaces.Box(-1, 1, (1,), np.float64), ["must have dtype float32 (or uint8"]),
        ("observation_space", spaces.Dict({"a": spaces.Text(3)}), ["observation_space['a'] must be one of"]),
        (
            "observation_space",
            spaces.Tuple([spaces.Box(-1, 1, (1,), float)]),
            ["[0] must have dtype float32"],
        ),
        ("observation_space", spaces.Discrete(3, dtype=np.int32), ["must hold numbers of dtype int64"]),
        (
            "observation_space",
            box(lambda s: s.low.fill(np.nan)),
            ["must have bounds low <= high, none of them"],
        ),
        ("observation_space", box(lambda s: s.low.fill(2)), ["must have bounds low <= high"]),
        (
            "observation_space",
            box(lambda s: setattr(s, "low", np.zeros(2, np.float32))),
            ["must have bounds of shape (1,), got ((2,), (1,))"],
        ),
        ("action_space", spaces.Dict({"a": spaces.Text(2)}), ["['a'] must be one of Box, Discrete,"]),
        (
            "action_space",
            spaces.Box(0, 9, (1,), np.uint8),
            ["must have dtype float32, got 'uint8'. Write dtype"],
        ),
        ("action_space", spaces.MultiDiscrete([2, 2], dtype=np.int32), ["must hold numbers of dtype int64"]),
    ],
)
def test_spaces_that_cannot_be_are_refused(name, space, parts):
    expect(broken(**{name: space}), ValueError, f"check_env: Broken.{name}", *parts)


def test_a_space_is_gymnasiums():
    expect(
        broken(action_space=3), TypeError, "Broken.action_space must be a space of gymnasium.spaces, got 3"
    )


# What one step returns.


def always(value):
    return lambda self, *arguments: value


def after(method, change):
    """The method of the ferry with its result changed."""
    return {method: lambda self, *arguments: change(getattr(Ferry, method)(self, *arguments))}


@pytest.mark.parametrize(
    ("changes", "error", "parts"),
    [
        (
            {"reward": always(1.0)},
            TypeError,
            ["Broken.reward must return a tensor, got 1.0. Write torch.full(("],
        ),
        ({"terminal": always(False)}, TypeError, ["Broken.terminal must return a tensor, got False. Write"]),
        (
            {"observation": always(np.zeros(1, np.float32))},
            TypeError,
            ["Broken.observation must return a tensor"],
        ),
        (
            after("observation", lambda x: x[0]),
            ValueError,
            [
                "observation must return a tensor of shape [1] and torch.float32, got '[] torch.float32'. Write x.r"
            ],
        ),
        (
            after("observation", lambda x: x.double()),
            ValueError,
            ["of shape [1] and torch.float32, got '[1] torch.float64'. Write x.to(torch.float32)."],
        ),
        (
            after("reward", lambda x: x.reshape(1)),
            ValueError,
            [
                "Broken.reward must return a tensor of shape [] and a floating-point dtype, got '[1]",
                "Write x[0]",
            ],
        ),
        (
            after("reward", lambda x: x.long()),
            ValueError,
            [
                "Broken.reward must",
                "a floating-point dtype, got '[] torch.int64'. Write x.to(torch.float32).",
            ],
        ),
        (
            after("terminal", lambda x: x.float()),
            ValueError,
            ["Broken.terminal must return a tensor of shape [] and torch.bool", "Write x.to(torch.bool)."],
        ),
        (
            {
                "observation_space": spaces.Discrete(3),
                "observation": lambda self, state, key: state.steps.int(),
            },
            ValueError,
            ["Broken.observation must return a tensor of shape [] and torch.int64, got '[] torch.int32'."],
        ),
        (
            {"observation_space": spaces.Dict({"x": BASE.observation_space})},
            TypeError,
            ["Broken.observation must return a dict, got Tensor."],
        ),
        (
            {
                "observation_space": spaces.Dict({"x": BASE.observation_space, "y": spaces.Discrete(2)}),
                "observation": lambda self, state, key: {"x": state.position.reshape(1)},
            },
            ValueError,
            ["Broken.observation must return the entries ['x'], ['y'], got \"['x']\"."],
        ),
        (
            {
                "observation_space": spaces.Tuple([BASE.observation_space, spaces.Discrete(2)]),
                "observation": lambda self, state, key: (state.position.reshape(1), state.position),
            },
            ValueError,
            ["Broken.observation must return a tensor of shape [] and torch.int64 at [1], got"],
        ),
        (
            {"initial": lambda self, key: Water(0.0, torch.zeros(()))},
            TypeError,
            ["Broken.initial must return a state of tensors, got 0.0 in .position. Write torch.full((),"],
        ),
        (
            {"transition": lambda self, state, action, key: state.position @ state.position},
            ValueError,
            ["Broken.transition must run on (state, action, key), got 'RuntimeError: "],
        ),
    ],
)
def test_what_one_step_returns_is_checked(changes, error, parts):
    expect(broken(**changes), error, *parts)


def test_the_error_behind_is_kept():
    env = broken(reward=lambda self, state, *_: state.position @ state.position)
    with pytest.raises(ValueError, match=r"Broken\.reward must run on") as caught:
        check_env(env)
    assert isinstance(caught.value.__cause__, RuntimeError)


# The state keeps its kind.


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (
            lambda state: tree.replace(state, steps=state.steps * 0.5),
            [
                "shape and dtype of the state in .steps, [] torch.int64, got '[] torch.float32'. Write x.to(torch.i"
            ],
        ),
        (
            lambda state: tree.replace(state, position=state.position.reshape(1)),
            ["in .position, [] torch.float32"],
        ),
        (
            lambda state: (state.position, state.steps),
            ["keep the structure of the state, Water(.position, .steps), got 'tuple([0], [1])'."],
        ),
    ],
)
def test_the_state_keeps_structure_shapes_and_dtypes(change, parts):
    expect(
        broken(**after("transition", change)), ValueError, "check_env: Broken.transition must keep", *parts
    )


def test_the_state_keeps_them_later_too():
    def transition(self, state, action, key):
        following = BASE.transition(state, action, key)
        return tree.replace(following, steps=following.steps.int()) if state.steps > 4 else following

    expect(broken(transition=transition), ValueError, "Broken.transition must keep shape", "torch.int32")


def test_every_first_state_has_one_structure():
    def initial(self, key):
        state = BASE.initial(key)
        return state if state.position > 0 else tree.replace(state, steps=state.steps.int())

    kept = lambda self, state, action, key: tree.replace(state, position=state.position * 0.99)
    expect(broken(initial=initial, transition=kept), ValueError, "Broken.initial must keep shape and dtype")


# Purity.


def first(method, action):
    """The method of the ferry that does something to its arguments before."""

    def changed(self, *arguments):
        result = getattr(Ferry, method)(self, *tree.map(torch.clone, arguments))
        action(self, *arguments)
        return result

    return broken(**{method: changed})


def count(self, *arguments):
    object.__setattr__(self, "name", self.name + "!")


@pytest.mark.parametrize(
    ("env", "parts"),
    [
        (
            first("transition", lambda self, state, action, key: state.position.add_(1)),
            [
                "Broken.transition must not change its argument state in place",
                "Write x = x + y instead of x += y",
            ],
        ),
        (
            first("transition", lambda self, state, action, key: action.zero_()),
            ["its argument action in place"],
        ),
        (
            first("initial", lambda self, key: key.add_(1)),
            ["Broken.initial must not change its argument key"],
        ),
        (
            first("reward", lambda self, state, action, after, key: after.position.clamp_(-0.1, 0.1)),
            ["Broken.reward must not change its argument next_state in place"],
        ),
        (
            first("observation", count),
            [
                "Broken.observation must not change the environment's name, got",
                "Keep in the state what changes",
            ],
        ),
        (
            broken(
                depth=torch.ones(3),
                terminal=lambda self, state, key: self.depth.add_(1)[0] < 0,
                reward=lambda self, state, *_: state.position,
            ),
            ["Broken.terminal must not change the environment's depth, got tensor(["],
        ),
        (
            first("initial", lambda *_: torch.rand(())),
            ["initial must leave the global random state of torch alone", "Write random.uniform(key)"],
        ),
        (first("reward", lambda *_: np.random.rand()), ["Broken.reward must leave", "random state of NumPy"]),
        (
            first("terminal", lambda *_: python_random.random()),
            ["Broken.terminal must leave", "of Python alone"],
        ),
        (
            broken(reward=lambda self, *_: torch.full((), float(CALLS.append(1) or len(CALLS)))),
            ["Broken.reward must return the same whenever the arguments are the same", "Draw from the key"],
        ),
    ],
)
def test_impure_methods_are_found(env, parts):
    expect(env, ValueError, *parts)


def test_what_an_environment_hides_in_itself_is_found():
    hide = lambda self, *_: object.__setattr__(self, f"_hidden{len(vars(self))}", 0)
    expect(first("reward", hide), ValueError, "Broken.reward must not change the environment's _hidden")


def test_a_nested_environment_is_watched():
    reward = lambda self, *arguments: (count(self.env), self.env.reward(*arguments))[1]
    env = broken(Wrapper, env=Ferry(), reward=reward)
    expect(env, ValueError, "Broken.reward must not change the environment's env.name")


def test_caching_a_space_is_allowed():
    @tree.struct
    class Cached(Ferry):
        @property
        def observation_space(self):
            return self.__dict__.setdefault("_space", spaces.Box(-1.5, 1.5, (1,), np.float32))

    check_env(Cached(), num_steps=20, backend="eager")


def test_the_global_random_states_are_left_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), python_random.getstate()
    check_env(BASE, num_steps=20)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert python_random.getstate() == before[2]


# Values in many steps.


def test_observations_outside_the_space_are_found_far_from_the_beginning():
    env = broken(
        observation_space=spaces.Box(-1.35, 1.5, (1,), np.float32),
        transition=lambda self, state, action, key: BASE.transition(state, torch.zeros_like(action), key),
        terminal=lambda self, state, key: state.position > 2,
    )
    parts = [
        "Broken.observation must lie in observation_space",
        "at [0], outside of [-1.35, 1.5]",
        "Write wider",
    ]
    expect(env, ValueError, *parts, num_steps=40)


def test_observations_that_are_no_numbers_are_found():
    nan = lambda self, state, key: torch.where(state.steps > 3, torch.nan, state.position).reshape(1)
    expect(
        broken(observation=nan), ValueError, "Broken.observation must lie in", "got 'nan at [0], outside of"
    )


def test_rewards_are_finite():
    infinite = lambda self, state, *_: torch.log(5.0 - state.steps.clamp(max=5))
    expect(broken(reward=infinite), ValueError, "Broken.reward must be finite, got -inf. Write torch.clamp")


def test_an_episode_begins_before_its_end():
    env = broken(terminal=lambda self, state, key: state.position < 0.3)
    expect(
        env,
        ValueError,
        "Broken.initial must return a state that is not terminal, got Water(",
        "Write a terminal",
    )


def test_actions_are_random_first_and_held_then():
    walk = walking.take_walk("test", BASE, random.key(0), 200)
    actions = torch.stack([sample.arguments[1] for sample in walk.samples["transition"]])
    assert (actions[1:100] != actions[:99]).sum() > 40
    held = actions[100:].reshape(4, 25)
    assert (held == held[:, :1]).all()
    assert len(set(held[:, 0].tolist())) > 1


@pytest.mark.parametrize(("end", "length"), [(999, 20), (7, 7)])
def test_a_walk_ends_episodes_where_they_end(end, length):
    env = broken(terminal=lambda self, state, key: state.steps >= end)
    walk = walking.take_walk("test", env, random.key(0), 100)
    assert [int(s.result.steps) for s in walk.samples["transition"]] == [t % length + 1 for t in range(100)]


# vmap.


def branching(self, state, action, next_state, key):
    return self.depth[1] if next_state.position > 0 else self.depth[0]


def level():
    return torch._C._functorch.maybe_current_level()


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (
            {"reward": branching},
            ["Broken.reward must run under torch.vmap, got", "Python `if`", "torch.where"],
        ),
        (
            {"terminal": lambda self, state, key: torch.tensor(abs(float(state.position)) > 1.3)},
            [
                "Broken.terminal must run under torch.vmap",
                "no .item(), .tolist(), .numpy(), float() or int().",
            ],
        ),
        (
            {"reward": lambda self, state, *_: torch.histc(state.position.reshape(1), 4, -9, 9)[0]},
            [
                "Broken.reward must run",
                "batching rule for aten::histc'. Write it with operations that vmap has",
            ],
        ),
        (
            {"reward": lambda self, state, *_: torch.zeros(()).add_(state.position)},
            ["Broken.reward must run under torch.vmap", "Write it out of place: x = x + y instead of x += y"],
        ),
        (
            after("reward", lambda x: x if level() is None else x + 1),
            [
                "Broken.reward must return under torch.vmap what it returns alone, ",
                "Let nothing depend on how",
            ],
        ),
        (
            after("terminal", lambda x: x if level() is None else ~x),
            ["Broken.terminal must return under torch.vmap what it returns alone, False, got 'True'."],
        ),
        (
            after("initial", lambda x: x if level() is None else (x.position, x.steps)),
            [
                "Broken.initial must return under torch.vmap what it returns alone, got 'other leaves, [0], [1]'."
            ],
        ),
        (
            after("initial", lambda x: x if level() is None else tree.replace(x, steps=x.steps.int())),
            [
                "Broken.initial must return under torch.vmap",
                ".steps: [3] torch.int64, got '.steps: [3] torch.int32'",
            ],
        ),
    ],
)
def test_methods_must_work_under_vmap(changes, parts):
    expect(broken(**changes), ValueError, *parts)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_a_loop_over_lanes_is_an_error_even_where_warnings_are_silenced():
    slow = lambda position: torch.histc(position.reshape(1), 4, -9, 9)[0]
    env = broken(reward=lambda self, state, *_: slow(state.position))
    expect(env, ValueError, "Broken.reward must run under torch.vmap")
    env = broken(
        reward=lambda self, state, *_: slow(torch.as_tensor(self.speed, device=state.position.device))
    )
    expect(env, ValueError, "Broken.reward must take a tensor for self.speed", "rule for aten::histc")


# Devices, as far as they show without one.


@pytest.mark.parametrize(
    ("changes", "method"),
    [
        ({"reward": lambda self, *_: torch.zeros(())}, "reward"),
        (
            {"initial": lambda self, key: Water(random.uniform(key, ()), torch.zeros((), dtype=torch.int64))},
            "initial",
        ),
        ({"observation": lambda self, state, key: state.position + torch.zeros(1)}, "observation"),
        ({"reward": lambda self, state, action, *_: torch.arange(3.0)[action]}, "reward"),
        ({"terminal": lambda self, state, key: torch.zeros((), dtype=torch.bool)}, "terminal"),
    ],
)
def test_tensors_are_made_where_the_arguments_are(changes, method):
    parts = [f"Broken.{method} must make its tensors where its arguments are, got", "Write device=key.device"]
    expect(broken(**changes), ValueError, *parts)


# Sweeps.


@pytest.mark.parametrize(
    ("env", "parts"),
    [
        (
            broken(reward=lambda self, state, *_: state.position * math.cos(self.speed)),
            [
                "Broken.reward must take a tensor for self.speed, so that it can be swept, got",
                "make it tree.static",
            ],
        ),
        (
            broken(reward=lambda self, state, *_: state.position.clamp(-1.0, self.gust)),
            ["Broken.reward must take a tensor for self.gust"],
        ),
        (
            broken(reward=lambda self, state, *_: state.position + isinstance(self.speed, torch.Tensor)),
            ["Broken.reward must return the same where self.speed is a tensor, ", "Write torch operations"],
        ),
        (
            broken(reward=lambda self, state, *_: state.position + (0.1 if level() else self.speed)),
            ["Broken.reward must return the same where self.speed is a tensor, "],
        ),
        (
            Wrapper(env=broken(reward=lambda self, state, *_: state.position * math.cos(self.speed))),
            ["Wrapper.reward must take a tensor for self.env.speed"],
        ),
    ],
)
def test_every_number_can_be_swept(env, parts):
    expect(env, ValueError, *parts)


# Compilation, time limit and autoreset.


def test_a_branch_on_the_environments_own_tensor_is_found_by_the_tracer():
    env = broken(reward=lambda self, state, *_: state.position if self.depth.sum() > 0 else -state.position)
    lines = message(env, backend="aot_eager")[1].splitlines()
    assert any(
        line.startswith("check_env: Broken.reward must be traceable by the compiler, got")
        and "torch.where" in line
        for line in lines
    )


def test_what_the_compiler_makes_of_it_must_be_the_same():
    tracing = lambda: torch.utils._python_dispatch._get_current_dispatch_mode() is not None
    env = broken(**after("reward", lambda x: x + 1 if tracing() else x))
    expect(
        env,
        ValueError,
        "Broken must step compiled as it does uncompiled, [0].episode_return: ",
        backend="aot_eager",
    )
    expect_silence(env)


def expect_silence(env):
    check_env(env, num_steps=20, backend="eager")


def test_the_step_is_one_program(monkeypatch):
    monkeypatch.setattr(checking.jit.Jit, "num_graphs", 2)
    expect(BASE, ValueError, "Ferry must be compiled once, got 2.")


@pytest.mark.parametrize(
    ("name", "change", "parts"),
    [
        (
            "no limit",
            lambda state, row: (state, tree.replace(row, truncated=row.truncated & False)),
            ["cut an"],
        ),
        (
            "always cut",
            lambda state, row: (state, tree.replace(row, truncated=row.truncated | True)),
            ["not cut"],
        ),
        (
            "no new episode",
            lambda state, row: (tree.replace(state, episode_length=row.episode_length), row),
            ["Ferry must begin the next episode where one ended, with lengths"],
        ),
        (
            "the next episode's observation",
            lambda state, row: (state, tree.replace(row, next_obs=state.obs)),
            ["Ferry.observation must show what the action led to, whether or not the time is up"],
        ),
        (
            "another observation goes on",
            lambda state, row: (tree.replace(state, obs=state.obs + 1), row),
            ["Ferry.observation must go on where no episode ended"],
        ),
    ],
)
def test_time_limit_and_autoreset_are_checked(name, change, parts, monkeypatch):
    monkeypatch.setattr(checking, "step", lambda *arguments: change(*envs.step(*arguments)))
    expect(BASE, ValueError, *parts)


def test_an_end_is_looked_at_where_there_is_one(monkeypatch):
    def without_reset(*arguments):
        state, row = envs.step(*arguments)
        length = torch.where(row.terminated, row.episode_length, state.episode_length)
        return tree.replace(state, episode_length=length), row

    monkeypatch.setattr(checking, "step", without_reset)
    env = broken(terminal=lambda self, state, key: state.steps == 7)
    expect(env, ValueError, "Broken must begin the next episode where one ended")


def test_a_time_limit_that_changes_is_found():
    moving = property(lambda self: CALLS.append(1) or 20 + len(CALLS))
    assert "Broken.max_episode_steps must" in message(broken(Wrapper, max_episode_steps=moving))[1]


# All together.


def test_problems_that_do_not_depend_on_each_other_are_named_together():
    kind, text = message(broken(reward=always(1.0), terminal=always(torch.zeros(1))))
    assert kind is ValueError
    assert [re.match(r"check_env: Broken\.(\w+) must", line)[1] for line in text.splitlines()] == [
        "reward",
        "terminal",
    ]
    kind, text = message(broken(reward=always(1.0), terminal=always(False)))
    assert kind is TypeError


def test_what_lives_longer_than_an_episode_is_checked_too():
    fine = lambda self, state, key: tree.replace(self.initial(key), steps=state.steps)
    check_env(broken(next_episode=fine), num_steps=60)
    wrong = lambda self, state, key: tree.replace(self.initial(key), steps=state.position)
    expect(
        broken(next_episode=wrong),
        ValueError,
        "Broken.next_episode must keep shape and dtype of the state in",
    )


def test_what_reports_count_is_checked_too():
    check_env(broken(score=lambda self, *arguments: self.reward(*arguments)), num_steps=20, backend="eager")
    infinite = lambda self, state, *_: torch.log(5.0 - state.steps.clamp(max=5))
    expect(broken(score=infinite), ValueError, "Broken.score must be finite, got -inf.")
    expect(
        broken(score=lambda *_: torch.zeros(1)), ValueError, "Broken.score must return a tensor of shape []"
    )
    expect(broken(score=lambda *_: torch.zeros(())), ValueError, "Broken.score must make its tensors where")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"num_steps": 0}, "num_steps must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"backend": "fast"}, "backend must be one of inductor, aot_eager, eager"),
    ],
)
def test_arguments_are_checked(changes, text):
    with pytest.raises(ValueError, match=f"check_env: {text}"):
        check_env(BASE, **changes)


def test_training_can_make_the_cheap_part():
    check_returns("train", BASE)
    with pytest.raises(TypeError, match=r"train: Broken\.reward must return a tensor, got 1\.0\."):
        check_returns("train", broken(reward=always(1.0)))
    with pytest.raises(ValueError, match=r"train: Broken\.observation_space must have dtype float32"):
        check_returns("train", broken(observation_space=spaces.Box(-1, 1, (1,), np.float64)))
