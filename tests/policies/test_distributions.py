"""The distributions of policies against torch.distributions and numerical integration, in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from torch import distributions as td

from funcrl import policies
from funcrl.core import random, tree
from funcrl.policies.bounds import Bounds

BOUNDS = Bounds((-1.0, 0.0, -3.0), (1.0, 0.5, 7.0))
KINDS = ("categorical", "multi_categorical", "bernoulli", "normal", "tanh_normal", "product", "reshaped")


def numbers(seed, *shape):
    return [random.normal(k, shape).double() for k in random.split(random.key(seed), 2)]


def make(kind, seed, *lead, scale=1.0):
    """A distribution with axes in front, and torch's of the same numbers, None where it has none."""
    one, two = numbers(seed, *lead, 3)
    one, two = scale * one, scale * two
    if kind == "categorical":
        return policies.Categorical(one, start=2), td.Categorical(logits=one)
    if kind == "multi_categorical":
        logits = torch.stack([one, two], -2)
        return policies.MultiCategorical(logits), td.Independent(td.Categorical(logits=logits), 1)
    if kind == "bernoulli":
        return policies.Bernoulli(one), td.Independent(td.Bernoulli(logits=one), 1)
    if kind == "normal":
        return policies.Normal(one, two), td.Independent(td.Normal(one, two.exp()), 1)
    if kind == "tanh_normal":
        low, high = (torch.tensor(x, dtype=torch.float64) for x in (BOUNDS.low, BOUNDS.high))
        steps = [td.TanhTransform(cache_size=1), td.AffineTransform((low + high) / 2, (high - low) / 2)]
        whole = td.TransformedDistribution(td.Normal(one, two.exp()), steps, validate_args=False)
        return policies.TanhNormal(one, two, BOUNDS), td.Independent(whole, 1)
    if kind == "reshaped":
        return policies.Reshaped(make("normal", seed, *lead, scale=scale)[0], (3, 1)), None
    parts = {name: make(name, seed, *lead, scale=scale)[0] for name in ("normal", "categorical")}
    return policies.Product(parts), None


kinds = pytest.mark.parametrize("kind", KINDS)
seeds = st.integers(0, 2**31)


@pytest.mark.parametrize("kind", KINDS[:5])
@settings(max_examples=20)
@given(seed=seeds, scale=st.floats(0.1, 3.0))
def test_log_prob_entropy_and_kl_are_torchs(kind, seed, scale):
    p, torch_p = make(kind, seed, 4, scale=scale)
    q, torch_q = make(kind, seed + 1, 4, scale=scale)
    action = p.sample(random.key(seed))
    same = {"categorical": lambda x: x - 2, "bernoulli": torch.Tensor.double}.get(kind, lambda x: x)
    if kind == "tanh_normal":  # nearer to a bound, torch finds no density
        action = p.squash(p.sample_before(random.key(seed)).clamp(-5, 5))
    assert torch.allclose(p.log_prob(action), torch_p.log_prob(same(action)))
    if kind == "tanh_normal":
        torch_p, torch_q = (td.Independent(td.Normal(x.mean, x.log_std.exp()), 1) for x in (p, q))
    else:
        assert torch.allclose(p.entropy(), torch_p.entropy())
    assert torch.allclose(p.kl(q), td.kl_divergence(torch_p, torch_q))


@pytest.mark.parametrize("log_std", [-3.0, 0.0, 1.0, 2.0])
@pytest.mark.parametrize("mean", [0.0, 0.7, -4.0])
def test_the_entropy_of_a_squashed_normal_is_its_integral(mean, log_std):
    bounds = Bounds((-1.0,), (4.0,))
    mean, log_std = (torch.tensor([x], dtype=torch.float64) for x in (mean, log_std))
    p = policies.TanhNormal(mean, log_std, bounds)

    def surprise(z):
        x = mean + math.exp(log_std) * z
        return -float(p.log_prob_before(x)) * math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)

    found, _ = integrate.quad(surprise, -9, 9, limit=400)
    assert float(p.entropy()) == pytest.approx(found, abs=5e-4 if log_std > 1 else 1e-6)


def test_the_density_of_a_squashed_normal_integrates_to_one():
    p = policies.TanhNormal(
        *(torch.tensor([x], dtype=torch.float64) for x in (0.4, -0.5)), Bounds((2.0,), (5.0,))
    )
    density = lambda a: math.exp(float(p.log_prob(torch.tensor([a], dtype=torch.float64))))
    assert integrate.quad(density, 2.0, 5.0)[0] == pytest.approx(1.0, abs=1e-6)


@kinds
def test_samples_have_the_entropy_and_the_divergence_that_are_announced(kind):
    num = 20_000
    p, q = (tree.map(lambda x: x.expand(num, *x.shape[1:]), make(kind, seed, 1)[0]) for seed in (5, 6))
    action = p.sample(random.key(1))
    log_p, log_q = p.log_prob(action), q.log_prob(action)
    for found, expected in ((-log_p, p.entropy()), (log_p - log_q, p.kl(q))):
        error = 4.5 * float(found.std()) / math.sqrt(num)
        assert float(found.mean()) == pytest.approx(float(expected[0]), abs=error)


@kinds
def test_the_mode_is_more_probable_than_any_sample(kind):
    p, _ = make(kind, 3, 500)
    mode = p.mode()
    if kind == "tanh_normal":  # its mode is that of the normal beneath
        low, high = (torch.tensor(x, dtype=torch.float64) for x in (BOUNDS.low, BOUNDS.high))
        assert torch.allclose(mode, (low + high) / 2 + (high - low) / 2 * torch.tanh(p.mean))
        return
    assert (p.log_prob(mode) >= p.log_prob(p.sample(random.key(0)))).all()


def test_moments_of_normal_samples():
    p = policies.Normal(
        torch.tensor([2.0, -1.0]).expand(50_000, 2), torch.tensor([0.5, -1.0]).expand(50_000, 2)
    )
    action = p.sample(random.key(0))
    assert torch.allclose(action.mean(0), p.mean[0], atol=0.03)
    assert torch.allclose(action.std(0), p.log_std[0].exp(), rtol=0.02)


def test_equal_logits_have_the_first_action_as_mode():
    assert int(policies.Categorical(torch.zeros(3), start=4).mode()) == 4
    assert policies.Bernoulli(torch.zeros(2)).mode().tolist() == [0, 0]


def scores(p, q, action):
    return p.log_prob(action), p.entropy(), p.kl(q)


@kinds
def test_lanes_equal_a_loop(kind):
    ps, qs = make(kind, 3, 4, 2)[0], make(kind, 4, 4, 2)[0]
    keys = random.split(random.key(0), 4)

    def lane(p, q, key):
        action = p.sample(key)
        return action, p.mode(), scores(p, q, action)

    together = torch.vmap(lane)(ps, qs, keys)
    for i in range(4):
        alone = lane(tree.index(ps, i), tree.index(qs, i), keys[i])
        for x, y in zip(tree.leaves(tree.index(together, i)), tree.leaves(alone), strict=True):
            assert torch.allclose(x, y)


@kinds
def test_torch_compile_takes_them_whole(kind):
    p, q = make(kind, 3, 2)[0], make(kind, 4, 2)[0]
    torch._dynamo.reset()

    @torch.compile(fullgraph=True, backend="eager")
    def run(p, q, key):
        action = p.sample(key)
        return action, p.mode(), scores(p, q, action)

    key = random.key(0)
    action = p.sample(key)
    expected = action, p.mode(), scores(p, q, action)
    for x, y in zip(tree.leaves(run(p, q, key)), tree.leaves(expected), strict=True):
        assert torch.allclose(x, y)


def slopes(make_one, *parameters):
    """Gradients of everything that training differentiates."""

    def total(*parameters):
        p = make_one(*parameters)
        q = make_one(*(0.5 * x for x in parameters))
        return sum(x.sum() for x in scores(p, q, action))

    action = make_one(*parameters).mode()
    return torch.func.grad(total, argnums=tuple(range(len(parameters))))(*parameters)


@pytest.mark.parametrize("size", [1e-20, 1.0, 80.0, 1e4, 1e30])
def test_extreme_logits_have_finite_gradients(size):
    logits = size * torch.tensor([[1.0, -1.0, 0.3], [0.0, 0.0, 1.0]])
    for kind in (policies.Categorical, policies.MultiCategorical, policies.Bernoulli):
        (slope,) = slopes(kind, logits)
        assert slope.isfinite().all()


def test_ruled_out_actions_have_finite_gradients():
    logits = torch.tensor([[1.0, -torch.inf, 0.3], [-torch.inf, 0.0, -torch.inf]])
    for kind in (policies.Categorical, policies.MultiCategorical, policies.Bernoulli):
        (slope,) = slopes(kind, logits)
        assert slope.isfinite().all()
        assert (slope[logits.isinf()] == 0).all()
    drawn = policies.MultiCategorical(logits.expand(1000, 2, 3)).sample(random.key(0))
    assert set(drawn[:, 0].tolist()) == {0, 2}
    assert set(drawn[:, 1].tolist()) == {1}
    thrown = policies.Bernoulli(torch.tensor([-torch.inf, torch.inf]).expand(1000, 2)).sample(random.key(0))
    assert thrown.unique(dim=0).tolist() == [[0, 1]]


@pytest.mark.parametrize("log_std", [-20.0, -5.0, 0.0, 2.0, 10.0, 20.0])
@pytest.mark.parametrize("mean", [0.0, 3.0, -30.0])
def test_extreme_spreads_have_finite_gradients(mean, log_std):
    mean, log_std = torch.full((1,), mean), torch.full((1,), log_std)
    bounds = Bounds((-2.0,), (2.0,))
    for kind in (policies.Normal, lambda mean, log_std: policies.TanhNormal(mean, log_std, bounds)):
        assert all(slope.isfinite().all() for slope in slopes(kind, mean, log_std))


@pytest.mark.parametrize("bounds", [Bounds((-1.0,), (1.0,)), Bounds((0.1,), (0.4,)), Bounds((-3e4,), (1e3,))])
def test_densities_near_a_bound(bounds):
    """Within 1e-6 of a bound, and at it, densities are finite; from before the tanh, they are exact."""
    low, high = bounds.low[0], bounds.high[0]
    for mean, log_std in ((0.0, 0.0), (4.0, 1.0)):
        single = [torch.tensor([x]) for x in (mean, log_std)]
        p, exact = (policies.TanhNormal(*xs, bounds) for xs in (single, [x.double() for x in single]))
        for share in (0.0, 1e-7, 1e-6):
            for action in (low + share * (high - low), high - share * (high - low)):
                action = torch.tensor([action])
                assert p.log_prob(action).isfinite()
                grads = torch.func.grad(
                    lambda m, s, a: policies.TanhNormal(m, s, bounds).log_prob(a), argnums=(0, 1, 2)
                )(*single, action)
                assert all(grad.isfinite().all() for grad in grads)
        for before in (-40.0, -8.0, 8.0, 40.0):
            before = torch.tensor([before])
            assert torch.allclose(
                p.log_prob_before(before).double(), exact.log_prob_before(before.double()), rtol=1e-5
            )
            action = p.squash(before)
            assert low <= exact.squash(before.double()).item() <= high
            assert torch.tensor(low) <= action <= torch.tensor(high)


def test_a_squashed_action_has_the_density_of_what_it_was_made_of():
    p = policies.TanhNormal(*numbers(0, 100, 3), BOUNDS)
    before = p.sample_before(random.key(0))
    assert torch.equal(p.squash(before), p.sample(random.key(0)))
    mild = (before.abs() < 8).all(-1)
    assert mild.sum() > 80
    assert torch.allclose(p.log_prob(p.squash(before))[mild], p.log_prob_before(before)[mild], atol=1e-6)


def test_real_samples_have_a_gradient():
    for kind in ("normal", "tanh_normal"):
        p, _ = make(kind, 0, 2)
        slope = torch.func.grad(lambda m, p=p: tree.replace(p, mean=m).sample(random.key(0)).sum())(p.mean)
        assert (slope > 0).all()


@kinds
def test_actions_of_another_shape_are_refused(kind):
    p, _ = make(kind, 0, 2)
    action = tree.map(lambda x: x[:, None], p.mode())
    with pytest.raises(ValueError, match=r"log_prob: action must (have|end with) shape"):
        p.log_prob(action)


def test_products_of_other_parts_and_bounds_that_differ_are_refused():
    p, _ = make("product", 0, 2)
    with pytest.raises(
        ValueError, match=r"Product: an action must have the parts \['categorical', 'normal'\]"
    ):
        p.log_prob({"normal": p.mode()["normal"]})
    squashed, _ = make("tanh_normal", 0, 2)
    with pytest.raises(ValueError, match=r"TanhNormal\.kl: other must have the bounds"):
        squashed.kl(tree.replace(squashed, bounds=Bounds((0.0,) * 3, (1.0,) * 3)))
