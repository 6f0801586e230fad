"""Keys and draws: known answers, distributions, purity, and the same bits however they are run."""

import itertools

import numpy as np
import pytest
import scipy.stats
import torch

from funcrl.core import jit, random, threefry

NUM = 20_000
KEY = random.key(0)
# A test that compares random numbers with a distribution fails by chance with this probability;
# the keys are fixed, so it either always does or never.
ALPHA = 1e-3


def _int32(word: int) -> torch.Tensor:
    return torch.tensor(word - (1 << 32) if word >> 31 else word, dtype=torch.int32)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        # Random123's kat_vectors for threefry2x32 with 20 rounds.
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_matches_the_known_answers_of_random123(counter, key, expected):
    words = threefry.threefry2x32((_int32(key[0]), _int32(key[1])), (_int32(counter[0]), _int32(counter[1])))
    assert tuple(int(word) & 0xFFFFFFFF for word in words) == expected


def _naive_threefry(key, counter):
    """The same in Python integers, straight from the paper's description."""
    mask = 0xFFFFFFFF
    schedule = [key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDA]
    x, y = (counter[0] + key[0]) & mask, (counter[1] + key[1]) & mask
    rotations = [13, 15, 26, 6, 17, 29, 16, 24]
    for i in range(20):
        x = (x + y) & mask
        r = rotations[i % 8]
        y = ((y << r | y >> (32 - r)) & mask) ^ x
        if i % 4 == 3:
            s = i // 4 + 1
            x = (x + schedule[s % 3]) & mask
            y = (y + schedule[(s + 1) % 3] + s) & mask
    return x, y


def test_threefry_matches_integer_arithmetic_on_random_words():
    generator = np.random.default_rng(0)
    for _ in range(50):
        k0, k1, c0, c1 = (int(w) for w in generator.integers(0, 2**32, 4))
        words = threefry.threefry2x32((_int32(k0), _int32(k1)), (_int32(c0), _int32(c1)))
        assert tuple(int(word) & 0xFFFFFFFF for word in words) == _naive_threefry((k0, k1), (c0, c1))


def test_uniform_is_uniform_and_stays_below_one():
    x = random.uniform(random.key(0), (NUM,))
    assert x.dtype == torch.float32
    assert x.min() >= 0
    assert x.max() < 1
    assert scipy.stats.kstest(x.numpy(), "uniform").pvalue > ALPHA


def test_uniform_takes_bounds():
    x = random.uniform(random.key(0), (NUM,), -3.0, 5.0)
    assert scipy.stats.kstest(x.numpy(), scipy.stats.uniform(-3, 8).cdf).pvalue > ALPHA


def test_normal_is_normal_and_finite():
    x = random.normal(random.key(1), (NUM,))
    assert x.isfinite().all()
    assert scipy.stats.kstest(x.numpy(), "norm").pvalue > ALPHA


@pytest.mark.parametrize(("low", "high"), [(0, 2), (-3, 4), (0, 1000), (5, 6)])
def test_randint_is_uniform_over_its_range(low, high):
    x = random.randint(random.key(2), (NUM,), low, high)
    assert x.dtype == torch.int64
    counts = np.bincount(x.numpy() - low, minlength=high - low)
    assert len(counts) == high - low
    if high - low > 1:
        assert scipy.stats.chisquare(counts).pvalue > ALPHA


def test_randint_is_unbiased_where_32_bits_would_not_be():
    # 3·2³⁰ does not divide 2³²: 32 random bits modulo it would give the low quarter twice as often.
    x = random.randint(random.key(3), (NUM,), 0, 3 * 2**30)
    thirds = np.bincount((x // 2**30).numpy(), minlength=3)
    assert scipy.stats.chisquare(thirds).pvalue > ALPHA


def test_bernoulli_has_its_probability_and_is_exact_at_the_ends():
    key = random.key(4)
    count = int(random.bernoulli(key, 0.3, (NUM,)).sum())
    assert scipy.stats.binomtest(count, NUM, 0.3).pvalue > ALPHA
    assert not random.bernoulli(key, 0.0, (NUM,)).any()
    assert random.bernoulli(key, 1.0, (NUM,)).all()
    assert random.bernoulli(key, torch.tensor([0.0, 1.0])).tolist() == [False, True]


def test_categorical_has_its_probabilities():
    logits = torch.tensor([0.3, -1.0, 2.0, -torch.inf, 0.0])
    x = random.categorical(random.key(5), logits.expand(NUM, 5))
    expected = torch.softmax(logits.double(), 0).numpy() * NUM
    counts = np.bincount(x.numpy(), minlength=5)
    assert counts[3] == 0
    keep = expected > 0
    assert scipy.stats.chisquare(counts[keep], expected[keep]).pvalue > ALPHA


@pytest.mark.parametrize("possible", [0, 1, 4])
def test_categorical_never_draws_what_is_impossible(possible):
    logits = torch.full((5,), -torch.inf)
    logits[possible] = 3.0
    assert (random.categorical(random.key(6), logits.expand(NUM, 5)) == possible).all()


@pytest.mark.parametrize("unit", [0.0, 1 - 2**-24])
def test_categorical_never_draws_what_is_impossible_at_either_end_of_the_interval(monkeypatch, unit):
    monkeypatch.setattr(random, "uniform", lambda key, shape: torch.full(tuple(shape), unit))
    logits = torch.tensor([-torch.inf, 0.3, -torch.inf, 0.1, -torch.inf])
    assert int(random.categorical(KEY, logits)) == (1 if unit == 0.0 else 3)


def test_categorical_never_draws_what_is_impossible_where_rounding_makes_a_sum_rise(monkeypatch):
    """Every threshold near a masked class, for many masks: sums over a prefix round differently."""
    for seed in range(100):
        k_logits, k_mask = random.split(random.key(seed), 2)
        logits = torch.where(random.bernoulli(k_mask, 0.5, (7,)), -torch.inf, random.normal(k_logits, (7,)))
        if logits.isinf().all():
            continue
        sums = torch.softmax(logits, -1).cumsum(-1)
        near = (sums[:, None] * 2**24 + torch.arange(-8, 9)).flatten().round().clamp(0, 2**24 - 1) / 2**24
        with monkeypatch.context() as patch:
            patch.setattr(random, "uniform", lambda key, shape, near=near: near)
            drawn = random.categorical(KEY, logits.expand(len(near), 7))
        assert logits[drawn].isfinite().all()


def test_permutation_is_one_and_every_place_is_equally_likely():
    rows = torch.vmap(lambda k: random.permutation(k, 5))(random.split(random.key(7), 5000))
    assert (rows.sort(dim=1).values == torch.arange(5)).all()
    for place in range(5):
        assert scipy.stats.chisquare(np.bincount(rows[:, place].numpy())).pvalue > ALPHA


def test_different_keys_and_purposes_give_different_numbers():
    key = random.key(8)
    keys = [key, random.key(9), *random.split(key, 3), *(random.fold_in(key, i) for i in range(3))]
    keys.append(random.key(8 << 32))
    draws = {tuple(random.bits(k, (4,)).tolist()) for k in keys}
    assert len(draws) == len(keys)


def test_children_are_independent_of_their_parent():
    key = random.key(10)
    parent = random.uniform(key, (NUM,))
    for child in random.split(key, 2):
        assert abs(float(torch.corrcoef(torch.stack([parent, random.uniform(child, (NUM,))]))[0, 1])) < 0.03
    across = torch.vmap(lambda k: random.uniform(k))(random.split(key, NUM))
    assert scipy.stats.kstest(across.numpy(), "uniform").pvalue > ALPHA


def test_the_beginning_of_a_draw_does_not_depend_on_its_length():
    key = random.key(11)
    assert torch.equal(random.bits(key, (3,)), random.bits(key, (10,))[:3])
    assert torch.equal(random.split(key, 3), random.split(key, 10)[:3])


def test_fold_in_takes_tensors_and_numbers_alike():
    key = random.key(12)
    for number in (0, 1, -1, 2**31, 2**32 - 1):
        as_tensor = torch.tensor(number, dtype=torch.int64)
        assert torch.equal(random.fold_in(key, number), random.fold_in(key, as_tensor))


def _draws(key):
    ks = random.split(random.fold_in(key, 5), 6)
    return (
        random.bits(ks[0], (7,)),
        random.uniform(ks[1], (2, 3)),
        random.normal(ks[2], (5,)),
        random.randint(ks[3], (5,), -2, 9),
        random.categorical(ks[4], torch.arange(12.0).reshape(3, 4)),
        random.permutation(ks[5], 9),
    )


def test_vmap_gives_the_same_bits_as_a_loop():
    keys = random.split(random.key(13), 4)
    together = torch.vmap(_draws)(keys)
    for lane in range(4):
        for many, one in zip(together, _draws(keys[lane]), strict=True):
            assert torch.equal(many[lane], one)


def test_keys_are_not_changed_and_there_is_no_global_state():
    key = random.key(15)
    before = key.clone()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    _draws(key)
    assert torch.equal(key, before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_out_of_range_are_refused(seed):
    with pytest.raises(ValueError, match=r"random\.key: seed must lie between"):
        random.key(seed)


@pytest.mark.parametrize("seed", [1.0, "1", True, None])
def test_seeds_must_be_integers(seed):
    with pytest.raises(TypeError, match="must be an integer"):
        random.key(seed)


def test_large_seeds_are_told_apart():
    assert not torch.equal(random.key(2**32), random.key(0))
    assert random.key(2**64 - 1).tolist() == [-1, -1]
    assert torch.equal(random.key(np.int64(3)), random.key(3))


def test_empty_ranges_are_refused():
    with pytest.raises(ValueError, match="randint"):
        random.randint(random.key(0), (3,), 2, 2)


@pytest.mark.parametrize("a", [0.3, 0.9, 1.0, 1.5, 10.0, 3000.0])
def test_gamma_has_its_distribution(a):
    x = random.gamma(random.key(16), a, (5 * NUM,)).double().numpy()
    assert scipy.stats.kstest(x, scipy.stats.gamma(a).cdf).pvalue > ALPHA
    # 5 standard errors of mean and variance; the fourth central moment is 3a² + 6a.
    assert abs(x.mean() - a) < 5 * (a / len(x)) ** 0.5
    assert abs(x.var() - a) < 5 * ((2 * a * a + 6 * a) / len(x)) ** 0.5


@pytest.mark.parametrize(("a", "b"), [(1, 1), (0.5, 0.5), (2, 8), (0.7, 20), (1, 5000), (3000, 4000)])
def test_beta_has_its_distribution(a, b):
    x = random.beta(random.key(17), a, b, (2 * NUM,)).double().numpy()
    assert scipy.stats.kstest(x, scipy.stats.beta(a, b).cdf).pvalue > ALPHA
    law = scipy.stats.beta(a, b)
    assert abs(x.mean() - law.mean()) < 5 * law.std() / len(x) ** 0.5
    assert x.std() == pytest.approx(law.std(), rel=0.05)


def test_gamma_and_beta_take_a_parameter_for_each_element():
    a = torch.tensor([[0.5], [2.0], [50.0]])
    b = torch.tensor([1.0, 4.0])
    gammas = torch.vmap(lambda key: random.gamma(key, a))(random.split(random.key(18), NUM))
    betas = torch.vmap(lambda key: random.beta(key, a, b))(random.split(random.key(19), NUM))
    assert (gammas.shape, betas.shape) == ((NUM, 3, 1), (NUM, 3, 2))
    for i in range(3):
        x = gammas[:, i, 0].double().numpy()
        assert scipy.stats.kstest(x, scipy.stats.gamma(float(a[i])).cdf).pvalue > ALPHA
        for j in range(2):
            x = betas[:, i, j].double().numpy()
            assert scipy.stats.kstest(x, scipy.stats.beta(float(a[i]), float(b[j])).cdf).pvalue > ALPHA
    assert np.abs(np.corrcoef(gammas[:, :, 0], rowvar=False) - np.eye(3)).max() < 0.04
    assert np.abs(np.corrcoef(betas.flatten(1), rowvar=False) - np.eye(6)).max() < 0.04


def test_beta_of_tiny_parameters_is_finite_and_has_its_moments():
    """Both gammas are zero in float32 most of the time; their ratio is 0, 1 or between."""
    x = random.beta(random.key(20), 0.01, 0.03, (NUM,)).double()
    assert x.isfinite().all()
    assert float(x.mean()) == pytest.approx(0.25, abs=0.02)
    assert float(x.var()) == pytest.approx(0.25 * 0.75 / 1.04, abs=0.01)


def _gamma_by_one_attempt(monkeypatch, attempt):
    """Draw with a = 1 where all other attempts fail; which attempt failed too."""
    calls, unit = itertools.count(), random._unit

    def rejecting(words):
        if next(calls) != 2:  # in order: radius, angle, acceptance, boost
            return unit(words)
        return torch.where(torch.arange(4).unsqueeze(-1) == attempt, unit(words), -1.0)

    with monkeypatch.context() as patch:
        patch.setattr(random, "_unit", rejecting)
        x = random.gamma(random.key(25), 1.0, (NUM,))
    return x, torch.isclose(x, torch.tensor(2 / 3), atol=1e-6)


def test_each_attempt_at_gamma_has_the_distribution_and_is_independent_of_the_others(monkeypatch):
    drawn = [_gamma_by_one_attempt(monkeypatch, attempt) for attempt in range(4)]
    for x, failed in drawn:
        assert scipy.stats.kstest(x[~failed].numpy(), "expon").pvalue > ALPHA
        # 4.9 % at a = 1 (Marsaglia & Tsang 2000, section 4: an efficiency of 0.951).
        assert float(failed.double().mean()) == pytest.approx(0.049, abs=0.005)
    for what in range(2):
        rows = np.stack([pair[what].double().numpy() for pair in drawn])
        assert np.abs(np.corrcoef(rows) - np.eye(4)).max() < 0.03


def test_gamma_is_near_its_median_where_every_attempt_fails(monkeypatch):
    x, failed = _gamma_by_one_attempt(monkeypatch, attempt=-1)
    assert failed.all()
    assert float(x[0]) == pytest.approx(1 - 1 / 3)


def _nan_where_impossible(key):
    return random.gamma(key, torch.tensor([torch.nan, -2.0, 1.0]))


def test_impossible_parameters_give_nan_for_their_elements_only():
    assert _nan_where_impossible(KEY).isnan().tolist() == [True, True, False]
    assert random.beta(KEY, torch.tensor([torch.nan, 1.0]), 2.0).isnan().tolist() == [True, False]


def _shaped_draws(key, a, b):
    k_gamma, k_beta, k_number = random.split(key, 3)
    return random.gamma(k_gamma, a), random.beta(k_beta, a, b), random.beta(k_number, 2.0, b[0], (3,))


def test_vmapped_gamma_and_beta_are_those_of_a_loop():
    keys, a = random.split(random.key(21), 4), random.uniform(random.key(22), (4, 5), 0.2, 9.0)
    b = torch.tensor([1.0, 2.0, 3.0, 0.5, 100.0])
    together = torch.vmap(_shaped_draws, in_dims=(0, 0, None))(keys, a, b)
    for lane in range(4):
        for many, one in zip(together, _shaped_draws(keys[lane], a[lane], b), strict=True):
            assert torch.allclose(many[lane], one, rtol=1e-5)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.compiled)])
def test_compiled_draws_are_those_of_eager(backend):
    """Of all kinds, in one program; integers and uniforms to the last bit."""
    keys, a = random.split(random.key(23), 4), random.uniform(random.key(24), (4, 5), 0.2, 9.0)
    both = lambda key, a: (_draws(key), _shaped_draws(key, a, torch.ones(5)))
    eager, compiled = torch.vmap(both)(keys, a), jit.jit(torch.vmap(both), backend=backend)(keys, a)
    for index, (one, other) in enumerate(zip(eager[0], compiled[0], strict=True)):
        # Logarithm and cosine may round differently in compiled code.
        assert torch.allclose(one, other, atol=1e-6) if index == 2 else torch.equal(one, other)
    for one, other in zip(eager[1], compiled[1], strict=True):
        assert torch.allclose(one, other, rtol=1e-4)
