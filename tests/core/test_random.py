"""Keys and draws: known answers, distributions, purity, and the same bits however they are run."""

import numpy as np
import pytest
import scipy.stats
import torch

from funcrl.core import jit, random

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
    words = random.threefry2x32((_int32(key[0]), _int32(key[1])), (_int32(counter[0]), _int32(counter[1])))
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
        words = random.threefry2x32((_int32(k0), _int32(k1)), (_int32(c0), _int32(c1)))
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


@pytest.mark.compiled
def test_compiled_integers_and_uniforms_have_the_same_bits():
    keys = random.split(random.key(14), 4)
    eager = torch.vmap(_draws)(keys)
    compiled = jit.jit(torch.vmap(_draws))(keys)
    for index, (a, b) in enumerate(zip(eager, compiled, strict=True)):
        # Logarithm and cosine may round differently in compiled code.
        assert torch.allclose(a, b, atol=1e-6) if index == 2 else torch.equal(a, b)


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
