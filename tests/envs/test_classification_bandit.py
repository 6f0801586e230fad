"""A labelled data set as a bandit, against what the data set says."""

import builtins
import sys

import numpy as np
import pytest
import scipy.stats
import torch

from funcrl import envs
from funcrl.core import jit, random, tree
from funcrl.data import LabelledImages, digits
from funcrl.envs import check_env
from funcrl.envs.classification_bandit import ClassificationBandit

KEY = random.key(0)
COLOURS = LabelledImages(torch.eye(4).reshape(4, 4, 1, 1)[:, :3], [0, 1, 2, 0], num_classes=5)


def test_it_is_what_train_needs():
    """With the digits it is checked among all that have names."""
    assert envs.make("DigitsBandit-v0") == ClassificationBandit()
    check_env(ClassificationBandit(COLOURS), num_steps=30)


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    images, labels = digits().on(torch.device("cpu"))
    assert images.dtype == torch.float32
    np.testing.assert_array_equal(images[:, 0].numpy() * 16, load_digits().images)
    np.testing.assert_array_equal(labels.numpy(), load_digits().target)
    assert (len(digits()), digits().num_classes, digits().shape) == (1797, 10, (1, 8, 8))
    env = ClassificationBandit()
    assert env.observation_space == ClassificationBandit(digits()).observation_space
    assert env.action_space == ClassificationBandit(digits()).action_space
    assert float(images.max()) == 1.0


def test_random_choices_are_judged_by_the_label():
    env = ClassificationBandit()
    k_reset, k_action = random.split(KEY, 2)
    images, labels = digits().on(torch.device("cpu"))
    state = torch.vmap(lambda k: envs.reset(env, k))(random.split(k_reset, 200))
    rights = 0
    for t in range(5):
        action = random.randint(random.fold_in(k_action, t), (200,), 0, 10)
        regret = torch.vmap(env.regret)(state.inner, action)
        index = state.inner.index
        keys = random.split(random.fold_in(KEY, t), 200)
        state, row = torch.vmap(lambda s, a, k: envs.step(env, s, a, k))(state, action, keys)
        assert torch.equal(row.obs, images[index])
        assert torch.equal(row.next_obs, images[index])
        assert torch.equal(state.obs, images[state.inner.index])
        right = labels[index] == action
        assert torch.equal(row.reward, right.float())
        assert torch.equal(regret, 1 - right.float())
        assert torch.equal(row.episode_return, right.float())
        assert row.terminated.all()
        assert not row.truncated.any()
        assert not (state.inner.index == index).all()
        assert not state.inner.over.any()
        rights += int(right.sum())
    assert 50 < rights < 160


def test_the_verdict_is_in_the_state():
    env = ClassificationBandit(COLOURS)
    for index, label in enumerate([0, 1, 2, 0]):
        no = torch.tensor(False)
        state = tree.replace(env.initial(KEY), index=torch.tensor(index))
        assert torch.equal(state.is_right, no)
        for action in range(5):
            after = env.transition(state, torch.tensor(action), KEY)
            assert bool(after.is_right) == (action == label)
            assert int(after.index) == index
            assert bool(after.over)


def test_every_image_is_equally_likely():
    drawn = torch.vmap(ClassificationBandit(COLOURS).initial)(random.split(KEY, 4000)).index
    counts = torch.bincount(drawn, minlength=4)
    assert scipy.stats.chisquare(counts.numpy()).pvalue > 0.001
    drawn = torch.vmap(ClassificationBandit().initial)(random.split(KEY, 20_000)).index
    assert int(drawn.min()) >= 0
    assert int(drawn.max()) < 1797
    assert len(drawn.unique()) > 1790


def test_best_class_pays_what_the_reward_range_says():
    env = ClassificationBandit(COLOURS)
    state = env.initial(KEY)
    regrets = [float(env.regret(state, torch.tensor(action))) for action in range(5)]
    assert sorted(regrets) == [0.0, 1.0, 1.0, 1.0, 1.0]
    assert env.reward_range == (0.0, 1.0)


def test_the_data_are_a_constant_of_a_traced_program():
    """What the real compiler is given in their place is tested of `core.store`."""
    env = ClassificationBandit()
    states = torch.vmap(lambda k: envs.reset_all(env, random.split(k, 2)))(random.split(KEY, 3))
    actions, keys = torch.ones(3, 2, dtype=torch.int64), random.split(KEY, 6).reshape(3, 2, 2)
    steps = torch.vmap(lambda s, a, k: envs.step_all(env, s, a, k))
    arguments = tree.map(torch.Tensor.contiguous, (states, actions, keys))
    expected = steps(*arguments)
    found = jit.jit(steps, backend="aot_eager")(*arguments)
    for x, y in zip(tree.leaves(expected), tree.leaves(found), strict=True):
        assert torch.equal(x, y)


def test_no_operation_of_a_traced_step_has_the_size_of_the_data():
    from funcrl.core.graphs import trace
    from funcrl.core.tree import flatten

    env = ClassificationBandit()
    states = torch.vmap(lambda k: envs.reset_all(env, random.split(k, 2)))(random.split(KEY, 3))
    actions, keys = torch.ones(3, 2, dtype=torch.int64), random.split(KEY, 6).reshape(3, 2, 2)
    leaves, spec = flatten((states, actions, keys))
    graph, _ = trace(torch.vmap(lambda s, a, k: envs.step_all(env, s, a, k)), leaves, spec)
    sizes = [
        node.meta["val"].twin.untyped_storage().nbytes()
        for node in graph.graph.nodes
        if node.op == "call_function" and isinstance(node.meta.get("val"), torch.Tensor)
    ]
    assert sizes
    # 3 lanes of 2 images of 256 bytes, against 460 kB; the generator's words lie between.
    assert max(sizes) < 1797 * 8


def test_the_copy_on_a_device_is_made_once_and_no_tracer_sees_it():
    data = LabelledImages(torch.rand(5, 1, 2, 2), [0, 1, 0, 1, 1])
    device = torch.device("meta")
    seen = []

    def look(x):
        seen.append(data.on(device)[0])
        return x + 1

    jit.jit(torch.vmap(look), backend="aot_eager")(torch.zeros(3))
    assert type(seen[0]) is torch.Tensor
    assert not torch._C._functorch.is_functorch_wrapped_tensor(seen[0])
    assert data.on(device)[0] is seen[0]
    assert data.on(device)[1].device == device
    assert data.on(torch.device("cpu"))[0] is data.on(torch.device("cpu"))[0]


def test_the_digits_may_be_loaded_while_a_program_is_traced():
    digits.cache_clear()
    program = jit.jit(torch.vmap(lambda k: envs.reset(ClassificationBandit(), k)), backend="aot_eager")
    keys = random.split(KEY, 3).contiguous()
    traced = program(keys)
    assert torch.equal(traced.obs, digits().on(torch.device("cpu"))[0][traced.inner.index])
    assert type(digits().on(torch.device("cpu"))[0]) is torch.Tensor


def test_spaces_are_known_without_scikit_learn(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **options):
        if name.startswith("sklearn"):
            raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.delitem(sys.modules, "sklearn.datasets", raising=False)
    digits.cache_clear()
    env = ClassificationBandit()
    assert env.observation_space.shape == (1, 8, 8)
    assert env.action_space.n == 10
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'funcrl\[digits\]'"):
        env.initial(KEY)


def test_two_data_sets_are_two_and_one_is_itself():
    images, labels = torch.zeros(1, 1, 1, 1), [0]
    first, second = LabelledImages(images, labels), LabelledImages(images, labels)
    assert ClassificationBandit(first) == ClassificationBandit(first)
    assert ClassificationBandit(first) != ClassificationBandit(second)
    assert len({first, second, first}) == 2


def test_the_data_are_a_copy():
    images = torch.zeros(1, 1, 1, 1)
    data = LabelledImages(images, [0])
    images += 1
    assert not data.on(torch.device("cpu"))[0].any()


def test_pictures():
    state = tree.replace(ClassificationBandit(COLOURS).initial(KEY), index=torch.tensor(1))
    frame = ClassificationBandit(COLOURS).render(state)
    assert frame.dtype == np.uint8
    assert frame.shape == (240, 240, 3)
    assert (frame == [0, 255, 0]).all()
    frame = ClassificationBandit().render(ClassificationBandit().initial(KEY))
    assert frame.shape == (240, 240, 3)
    image = digits().on(torch.device("cpu"))[0][ClassificationBandit().initial(KEY).index, 0]
    assert torch.equal(torch.from_numpy(frame[::30, ::30, 2].copy()), (255 * image).round().to(torch.uint8))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.zeros(2, 8, 8), [0, 1]), ValueError, r"images must be \[M, C, H, W\].*images\[:, None\]"),
        ((torch.zeros(0, 1, 8, 8), []), ValueError, "images must be"),
        ((torch.full((1, 1, 1, 1), 16.0), [0]), ValueError, "images must lie in .0, 1.*images / 255"),
        ((torch.full((1, 1, 1, 1), torch.nan), [0]), ValueError, "images must hold finite pixels"),
        ((torch.zeros(2, 1, 1, 1), [0]), ValueError, "labels must be one an image"),
        ((torch.zeros(2, 1, 1, 1), [0.0, 1.0]), TypeError, "labels must be integers"),
        ((torch.zeros(2, 1, 1, 1), [-1, 1]), ValueError, "labels must lie in .0, 1., got .-1, 1."),
        ((torch.zeros(2, 1, 1, 1), [0, 3], 3), ValueError, "labels must lie in .0, 2., got .0, 3."),
        ((torch.zeros(2, 1, 1, 1), [0, 1], 2.0), TypeError, "num_classes must be an integer"),
    ],
)
def test_impossible_data_are_refused(arguments, error, message):
    with pytest.raises(error, match=f"LabelledImages: {message}"):
        LabelledImages(*arguments)


def test_impossible_parameters_are_refused():
    with pytest.raises(TypeError, match=r"ClassificationBandit: data must be .*Write envs.LabelledImages"):
        ClassificationBandit(torch.zeros(1, 1, 8, 8))
    with pytest.raises(
        ValueError, match=r"ClassificationBandit: data must have labels, got LabelledImages\(1 of"
    ):
        ClassificationBandit(LabelledImages(torch.zeros(1, 1, 8, 8)))
    with pytest.raises(ValueError, match="max_episode_steps"):
        ClassificationBandit(max_episode_steps=0)
