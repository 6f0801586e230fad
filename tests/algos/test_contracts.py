"""What every algorithm promises."""

import contextlib
import dataclasses
import inspect
import warnings

import pytest
import torch
import torch.utils._pytree as torch_pytree
from gymnasium import spaces

from funcrl.algos import REGISTRY, planning, protocol
from funcrl.core import random, tree
from funcrl.core.memory import without_collection
from funcrl.io import load, save
from funcrl.train.loops import LOOPS
from tests.algos.table import CASES, ON_POLICY, lanes
from tests.algos.trees import quickly_walked

cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
on_policy = pytest.mark.parametrize("case", ON_POLICY, ids=lambda case: case.id)
KEY = random.key(5)

# Whether torch takes it whole does not depend on what compiles it. The real compiler takes ten seconds and
# more for each: what networks, tables and replay need of it is tested in tests/train, what solving equations
# needs in tests/algos/planning. The smallest of all shows that it takes what torch.compile hands on.
COMPILED = ("optimistic",)

# Noise of its own is how it acts: it learns by the lines of the same algorithm without it. Of PPO with other
# distributions nothing is new but these, which tests/policies gives to torch.compile one by one.
LEARN_AS_ANOTHER = ("sac-smooth", "ppo-box", "ppo-multi_discrete")

# torch.compile has constants again for what it broadcasts where it follows `vmap`. Where it has none, other
# numbers run by the same program.
STAY_SYMBOLS = ("ppo", "td3")


def traced_or_compiled(case):
    if case.name not in COMPILED:
        return pytest.param(case, "eager", id=case.id)
    return pytest.param(case, "inductor", id=f"{case.id}-compiled", marks=pytest.mark.compiled)


TRACED_OR_COMPILED = [traced_or_compiled(case) for case in CASES if case.id not in LEARN_AS_ANOTHER]

# How torch itself walks their trees is the same for all: the smallest of each kind goes that way.
WALKED_BY_TORCH = ("a2c", "double_dqn", "boltzmann", "policy_evaluation")


def same_bits(a, b):
    return all(
        torch.equal(x.nan_to_num(), y.nan_to_num()) and torch.equal(x.isnan(), y.isnan())
        for x, y in zip(tree.leaves(a), tree.leaves(b), strict=True)
    )


def layout(value):
    return torch_pytree.tree_structure(value), [(x.shape, x.dtype, x.device) for x in tree.leaves(value)]


def close(a, b, tolerance=1e-5):
    return all(
        torch.allclose(x, y, rtol=tolerance, atol=tolerance, equal_nan=True)
        for x, y in zip(tree.leaves(a), tree.leaves(b), strict=True)
    )


def float_fields(config):
    return [field.name for field in dataclasses.fields(config) if not field.metadata.get("static", False)]


def test_every_algorithm_is_in_the_table():
    assert {case.name for case in CASES} == {*REGISTRY, *planning.REGISTRY}
    assert {type(case) for case in CASES if case.id in WALKED_BY_TORCH} == {type(case) for case in CASES}


def test_the_loops_are_those_of_the_protocol():
    assert set(protocol.LOOPS) == set(LOOPS)


@pytest.mark.parametrize("name", REGISTRY)
def test_names_and_arguments_are_those_of_the_protocol(name):
    algorithm = REGISTRY[name]
    assert algorithm.LOOP in protocol.LOOPS
    verbs = ["init", "act", "greedy", "update"] + ["prepare"] * (algorithm.LOOP == "on_policy")
    for verb in verbs:
        _, *wanted = inspect.signature(getattr(protocol.Algorithm, verb)).parameters
        given = list(inspect.signature(getattr(algorithm, verb)).parameters)
        assert given in (wanted, [*wanted, "carry"], [*wanted, "noise"])
        if verb == "act":
            assert (given[-1] == "noise") == hasattr(algorithm, "initial_noise")
        if verb in ("act", "greedy") and hasattr(algorithm, "initial_carry"):
            assert given[-1] == "carry"
    if hasattr(algorithm, "initial_carry"):
        assert list(inspect.signature(algorithm.initial_carry).parameters) == ["state"]
        assert list(inspect.signature(algorithm.remember).parameters) == ["state", "obs", "carry"]
    if hasattr(algorithm, "initial_noise"):
        assert list(inspect.signature(algorithm.initial_noise).parameters) == ["state"]
        assert list(inspect.signature(algorithm.next_noise).parameters) == ["state", "noise", "key"]
    fields = {field.name for field in dataclasses.fields(algorithm.State)}
    assert {"config", "metrics", *algorithm.LEARNT} <= fields
    assert not {"config", "metrics", "optimizer", "step"} & set(algorithm.LEARNT)


@cases
def test_metrics_have_the_names_that_are_announced(case):
    assert tuple(case.init().metrics) == case.algorithm.METRICS
    assert set(case.algorithm.update(case.init(), case.batch()).metrics) == set(case.algorithm.METRICS)


@cases
def test_no_input_is_changed(case):
    state, batch, obs = case.init(), case.batch(), case.observations(3)
    before = tree.map(torch.clone, (state, batch, obs, KEY))
    case.act(state, obs, KEY)
    case.greedy(state, obs)
    case.algorithm.update(state, batch)
    assert same_bits(before, (state, batch, obs, KEY))


@on_policy
def test_preparing_changes_no_input(case):
    state, window = case.init(), case.window()
    before = tree.map(torch.clone, (state, window))
    case.algorithm.prepare(state, window)
    assert same_bits(before, (state, window))


@cases
def test_structure_shapes_and_dtypes_are_kept(case):
    state = case.init()
    assert layout(case.algorithm.update(state, case.batch())) == layout(state)


@cases
def test_same_input_same_bits(case):
    assert same_bits(case.init(), case.init())
    update = case.algorithm.update
    assert same_bits(update(case.init(), case.batch()), update(case.init(), case.batch()))
    obs = case.observations(3)
    assert same_bits(case.act(case.init(), obs, KEY), case.act(case.init(), obs, KEY))


@cases
def test_different_keys_give_different_agents_and_actions(case):
    assert same_bits(case.init(0), case.init(1)) != case.draws
    obs = case.observations(50)
    first, _ = case.act(case.init(), obs, random.key(1))
    second, _ = case.act(case.init(), obs, random.key(2))
    assert torch.equal(first, second) != case.acts_by_key


@cases
def test_vmapped_lanes_equal_a_loop(case):
    states, batches = lanes(case)
    together = torch.vmap(case.algorithm.update)(states, batches)
    for lane in range(3):
        alone = case.algorithm.update(tree.index(states, lane), tree.index(batches, lane))
        assert close(tree.index(together, lane), alone)


@cases
def test_init_vmaps(case):
    keys = torch.stack([random.key(seed) for seed in range(3)])
    states = torch.vmap(lambda k: case.algorithm.init(k, case.config, case.env))(keys)
    for lane in range(3):
        assert close(tree.index(states, lane), case.init(lane))


@on_policy
def test_prepare_vmaps(case):
    states = tree.stack([case.init(seed) for seed in range(3)])
    windows = tree.stack([case.window(seed) for seed in range(3)])
    prepared = torch.vmap(case.algorithm.prepare)(states, windows)
    for lane in range(3):
        assert close(tree.index(prepared, lane), case.batch(lane))


@cases
def test_one_observation_is_a_row_of_several(case):
    """`greedy` and `act` take one observation or many, and give each an action of its own."""
    state, several = case.init(), case.observations(4)
    greedy = case.greedy(state, several)
    drawn, _ = case.act(state, several, KEY)
    one = tree.index(several, 2)
    assert greedy.shape == drawn.shape == (4, *case.action_shape)
    # One row and several are multiplied in another order: real actions may differ in the last bits.
    assert torch.allclose(case.greedy(state, one), greedy[2])
    assert case.act(state, one, KEY)[0].shape == case.action_shape
    assert (
        greedy.dtype
        == drawn.dtype
        == (torch.float32 if isinstance(case.env.action_space, spaces.Box) else torch.int64)
    )


@cases
def test_every_float_of_the_config_can_be_swept(case):
    """All in one sweep: a lane as it is, and one for each float, which differs in it alone."""
    batch, names = case.batch(), float_fields(case.config)
    plain = [float(getattr(case.config, name)) for name in names]
    values = torch.tensor(plain, dtype=case.precision).repeat(1 + len(names), 1)
    others = torch.tensor([x * 0.9 + 0.01 for x in plain], dtype=case.precision)
    values[1:][torch.eye(len(names), dtype=torch.bool)] = others

    def lane(numbers):
        config = tree.replace(case.config, **dict(zip(names, numbers, strict=True)))
        return case.algorithm.update(case.init(config=config), batch)

    swept = torch.vmap(lane)(values)
    for i, row in enumerate(values):
        assert torch.equal(getattr(swept.config, names[i - 1]), values[:, i - 1])
        assert close(tree.index(swept, i), lane(row)), names[i - 1] if i else "as it is"


@cases
def test_floats_of_the_config_are_tensors_inside_a_state(case):
    config = case.init().config
    for name in float_fields(config):
        assert getattr(config, name).shape == ()
        assert getattr(config, name).dtype == case.precision


@cases
def test_the_state_is_frozen(case):
    state = case.init()
    for field in dataclasses.fields(state):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(state, field.name, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        case.config.num_envs = 7


@pytest.mark.parametrize(("case", "backend"), TRACED_OR_COMPILED)
def test_torch_compile_takes_it_whole_and_once_and_with_symbols_for_integers(case, backend):
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(torch.vmap(case.algorithm.update), fullgraph=True, backend=counter)
    walk = contextlib.nullcontext() if case.id in WALKED_BY_TORCH else quickly_walked()
    # Not those of the case: one may be 1, which is never a symbol.
    other = case.with_config(tree.replace(case.config, **case.other_integers))
    with walk, without_collection(), symbols_for(case.other_integers):
        states, batches = lanes(other)
        expected = torch.vmap(case.algorithm.update)(states, batches)
        once = compiled(*with_symbols_where_they_differ((states, batches), lanes(case, 1)))
        assert close(once, expected)
        # The next batch is another one: a state may hold tensors of the batch that it has learnt from.
        compiled(tree.map(usual_strides, once), tree.map(torch.clone, batches))
        if case.id in STAY_SYMBOLS:
            states, batches = lanes(case)
            assert close(compiled(states, batches), torch.vmap(case.algorithm.update)(states, batches))
        assert counter.frame_count == 1


def symbols_for(integers):
    """Have torch.compile take these settings as symbols, as it does by itself once it has seen two values of them."""
    sources = rf".*\.config\.({'|'.join(integers)})$" if integers else ""
    return torch.compiler.config.patch(dynamic_sources=sources)


def with_symbols_where_they_differ(value, other):
    """Have torch.compile take as symbols the lengths of axes that differ in two trees of lanes."""
    for x, y in zip(tree.leaves(value), tree.leaves(other), strict=True):
        for axis in range(1, x.ndim):
            if x.shape[axis] != y.shape[axis]:
                torch._dynamo.maybe_mark_dynamic(x, axis)
    return value


def usual_strides(x):
    """An axis of one element has any stride, and torch.compile takes each for another kind of input."""
    return x.view(-1).view(x.shape) if 1 in x.shape and x.is_contiguous() else x


@cases
def test_nothing_falls_back_to_a_loop_over_lanes(case):
    states, batches = lanes(case)
    obs = tree.stack([case.observations(2)] * 3)
    keys = random.split(KEY, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.vmap(case.algorithm.update)(states, batches)
        torch.vmap(case.act)(states, obs, keys)
        torch.vmap(case.greedy)(states, obs)


@on_policy
def test_preparing_does_not_fall_back_to_a_loop_over_lanes(case):
    states, _ = lanes(case)
    windows = tree.stack([case.window(seed) for seed in range(3)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.vmap(case.algorithm.prepare)(states, windows)


@cases
def test_a_checkpoint_has_the_same_bits(case, tmp_path):
    state = case.algorithm.update(case.init(), case.batch())
    save(tmp_path / "state.safetensors", state)
    again = load(tmp_path / "state.safetensors", like=case.init(9))
    assert layout(again) == layout(state)
    assert same_bits(again, state)


@cases
def test_metrics_have_the_same_names_from_the_beginning_and_are_finite(case):
    state = case.init()
    updated = case.algorithm.update(state, case.batch())
    assert list(updated.metrics) == list(state.metrics)
    for name, value in updated.metrics.items():
        assert value.shape == ()
        assert value.isfinite(), name


@cases
def test_a_diverged_lane_touches_no_other(case):
    states, batches = lanes(case)

    def spoil(leaf):
        return leaf.index_fill(0, torch.tensor(1), torch.nan) if leaf.is_floating_point() else leaf

    fine, broken = states, tree.map(spoil, states)
    for _ in range(2):
        fine = torch.vmap(case.algorithm.update)(fine, batches)
        broken = torch.vmap(case.algorithm.update)(broken, batches)
    learnt = [leaf for name, leaf in tree.named_leaves(broken).items() if not name.startswith(".config")]
    assert not all(leaf[1].isfinite().all() for leaf in learnt if leaf.is_floating_point())
    for lane in (0, 2):
        assert same_bits(tree.index(broken, lane), tree.index(fine, lane))
