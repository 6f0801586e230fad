"""Blackjack against Gymnasium's own, card for card."""

import functools
import itertools

import gymnasium
import numpy as np
import pytest
import scipy.stats
import torch
from gymnasium.envs.toy_text import blackjack as theirs

from funcrl.core import random, tree
from funcrl.envs import drawing
from funcrl.envs.blackjack import MOST_DRAWS, Blackjack, Hand, Hands, cards
from tests.envs import classic, own
from tests.envs import tabular_parity as parity

RULES = [(natural, sab) for natural in (False, True) for sab in (False, True)]


class Deck:
    """Stands in for Gymnasium's generator and deals the cards that it is given."""

    def __init__(self):
        self.cards = []

    def choice(self, options):
        return self.cards.pop(0) if options == theirs.deck else options[0]


def a_pair(hand):
    """Return two cards that make this hand."""
    first, second = hand.cards()
    assert first + second == int(hand.total)
    return [first, second]


def numbers(obs):
    """Return observations as tuples of three numbers."""
    return list(map(tuple, torch.stack(obs, dim=-1).tolist()))


def test_surroundings_and_rules_are_gymnasiums():
    reference = gymnasium.make("Blackjack-v1")
    env = Blackjack(sab=True)
    assert env.observation_space == reference.observation_space
    assert env.action_space == reference.action_space
    assert env.max_episode_steps is reference.spec.max_episode_steps is None
    assert (env.natural, env.sab) == (reference.unwrapped.natural, reference.unwrapped.sab)


@pytest.mark.parametrize(("natural", "sab"), RULES)
def test_random_games_are_gymnasiums(natural, sab):
    """Gymnasium begins with the same hands and draws the cards of our keys."""
    rules = {"natural": natural, "sab": sab, "max_episode_steps": 2}
    reference = gymnasium.make("Blackjack-v1", **rules, disable_env_checker=True)
    deck = reference.unwrapped.np_random = Deck()
    states, actions, rows, keys = parity.rollout(Blackjack(**rules), num_envs=400, num_steps=20)
    assert actions.numel() >= 8000
    drawn = torch.vmap(torch.vmap(lambda k: cards(random.split(k, 5)[0], MOST_DRAWS)))(keys)
    for lane in range(400):
        one = tree.index((states, actions, rows, drawn), (slice(None), lane))
        follow(reference, deck, *one)
    assert rows.terminated.sum() > 1000
    assert (rows.truncated & ~rows.terminated).sum() > 100
    assert set(rows.reward.unique().tolist()) == {-1.0, 0.0, 1.0} | ({1.5} if natural and not sab else set())


def follow(reference, deck, states, actions, rows, drawn):
    begun = False
    outcomes = zip(rows.reward.tolist(), rows.terminated.tolist(), rows.truncated.tolist(), strict=True)
    steps = zip(numbers(states.obs), actions.tolist(), numbers(rows.next_obs), outcomes, strict=True)
    inner = tree.map(torch.Tensor.tolist, states.inner)
    for time, (obs, action, next_obs, outcome) in enumerate(steps):
        if not begun:
            dealer, player = (Hand(x.total[time], x.held[time]) for x in (inner.dealer, inner.player))
            deck.cards = [inner.shown[time], dealer.total - inner.shown[time], *a_pair(player)]
            assert dealer.has_ace == (1 in deck.cards[:2])
            assert reference.reset()[0] == obs
        deck.cards = drawn[time].tolist()
        assert reference.step(action)[:4] == (next_obs, *outcome)
        begun = not (outcome[1] or outcome[2])


def test_no_dealer_ever_needs_more_cards():
    @functools.cache
    def most_draws(hand):
        if theirs.sum_hand(hand) >= 17:
            return 0
        return 1 + max(most_draws(tuple(sorted((*hand, card)))) for card in range(1, 11))

    pairs = itertools.combinations_with_replacement(range(1, 11), 2)
    assert max(most_draws(pair) for pair in pairs) == MOST_DRAWS


def test_cards_have_the_stated_frequencies():
    drawn = torch.vmap(lambda k: cards(k, MOST_DRAWS))(random.split(random.key(0), 5000))
    for column in drawn.T:  # each draw of a hand by itself
        counts = torch.bincount(column, minlength=11).numpy()
        assert counts[0] == 0
        expected = [5000 * (4 if card == 10 else 1) / 13 for card in range(1, 11)]
        assert scipy.stats.chisquare(counts[1:], expected).pvalue > 0.001
    neighbours = torch.bincount(drawn[:, 0] * 11 + drawn[:, 1], minlength=121).reshape(11, 11)[1:, 1:]
    assert scipy.stats.chi2_contingency(neighbours.numpy()).pvalue > 0.005


def test_beginnings_have_the_stated_frequencies():
    states = torch.vmap(Blackjack().initial)(random.split(random.key(0), 40_000))
    assert not states.over.any()
    for hand in (states.dealer, states.player):
        held = zip(hand.total.tolist(), hand.has_ace.tolist(), strict=True)
        observed = parity.merged((1, total, 0, has_ace) for total, has_ace in held)
        expected = parity.merged(
            (40_000 / 169, first + second, 0, 1 in (first, second))
            for first, second in itertools.product(theirs.deck, repeat=2)
        )
        assert observed.keys() == expected.keys()
        counts = [observed[x] for x in expected]
        assert scipy.stats.chisquare(counts, list(expected.values())).pvalue > 0.005
    hidden = states.dealer.total - states.shown
    table = torch.bincount(states.shown * 11 + hidden, minlength=121).reshape(11, 11)
    assert table.sum() == table[1:, 1:].sum()
    assert scipy.stats.chi2_contingency(table[1:, 1:].numpy()).pvalue > 0.005


def test_compiled_equals_eager_and_stays_on_the_device():
    for rules in ({"sab": True}, {"natural": True}):
        parity.assert_compiled_is_eager(Blackjack(**rules), num_envs=200)
        parity.assert_everything_stays_on_the_device(Blackjack(**rules))


@pytest.mark.parametrize("params", [{"natural": 1}, {"sab": "yes"}, {"max_episode_steps": 0}])
def test_impossible_parameters_are_refused(params):
    with pytest.raises((TypeError, ValueError), match=f"Blackjack: {next(iter(params))} must "):
        Blackjack(**params)


def hands(player, dealer, over=False):
    """Return the state of a game with these cards; the dealer's first one is shown."""

    def hand(held):
        total = torch.tensor(sum(held))
        return Hand(total, sum(torch.tensor(1) << 5 * (card - 1) for card in held))

    return Hands(hand(player), hand(dealer), torch.tensor(dealer[0]), torch.tensor(over))


def test_a_hand_knows_its_cards():
    env, key = Blackjack(), random.key(3)
    for lane in range(40):
        state = env.initial(random.fold_in(key, lane))
        dealt = cards(random.fold_in(key, lane), 4).tolist()
        held = dealt[2:]
        for t in range(6):
            assert state.player.cards() == sorted(held)
            assert state.dealer.cards() == sorted(dealt[:2])
            assert bool(state.player.has_ace) == (1 in held)
            step = random.fold_in(random.fold_in(key, lane), t)
            held.append(int(cards(step, MOST_DRAWS)[0]))
            state = env.transition(state, torch.tensor(1), step)
    aces = hands([1] * 22, [10, 1])
    assert aces.player.cards() == [1] * 22
    assert aces.dealer.cards() == [1, 10]


def test_pictures_show_the_cards():
    states = [
        hands([2, 5], [9, 3]),
        hands([2, 6], [9, 3]),
        hands([3, 4], [9, 3]),
        hands([2, 2, 3], [9, 3]),
        hands([2, 5], [10, 3]),
        hands([2, 5], [9, 3], over=True),
        hands([1] * 12 + [2, 5], [2, 2, 1, 1, 1, 3, 3, 6], over=True),
    ]
    own.assert_pictures(Blackjack(), states)
    white = [len(classic.pixels(Blackjack().render(state), "#ffffff")[0]) for state in states]
    assert white[3] - white[0] == pytest.approx(100 * 140, rel=0.15)  # one card more


def test_pictures_do_not_show_the_card_that_lies_face_down():
    env = Blackjack()
    frames = [[env.render(hands([4, 10], [9, card], over)) for card in (1, 3, 10)] for over in (False, True)]
    assert all(np.array_equal(frame, frames[0][0]) for frame in frames[0])
    assert not any(np.array_equal(frame, frames[1][0]) for frame in frames[1][1:])
    classic.pixels(frames[0][0], drawing.BLUE)
    assert not (frames[1][0] == [0x3B, 0x6E, 0xA8]).all(axis=2).any()


@pytest.mark.parametrize(
    ("player", "dealer", "rules", "verdict"),
    [
        ([1, 10], [9, 10], {"natural": True}, "player wins (+1.5)"),
        ([1, 10], [7, 7, 7], {"natural": True}, "a draw (0)"),
        ([1, 10], [7, 7, 7], {"sab": True}, "player wins (+1)"),
        ([9, 10, 5], [9, 10], {}, "dealer wins (-1)"),
    ],
)
def test_pictures_say_who_has_won(player, dealer, rules, verdict, monkeypatch):
    written = []
    monkeypatch.setattr(drawing.Canvas, "text", lambda self, at, words, *rest: written.append(words))
    Blackjack(**rules).render(hands(player, dealer, over=True))
    assert verdict in written
    sums = [(sum(held) + (10 if 1 in held and sum(held) < 12 else 0)) for held in (dealer, player)]
    for who, total in zip(("dealer", "player"), sums, strict=True):
        assert any(words.startswith(f"{who}: {total}") for words in written)
