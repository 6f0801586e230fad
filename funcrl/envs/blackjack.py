"""Blackjack-v1: draw cards to come closer to 21 than the dealer, without going over it.

Sutton & Barto 2018, "Reinforcement learning: an introduction", example 5.1. Cards, dealer and pay-offs
are those of Gymnasium, whose `Blackjack-v1` is registered with `sab=True`.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core import checks, random, tree
from funcrl.envs.drawing import Frame
from funcrl.envs.scenes import card_table

MOST_DRAWS = 10
"""The most cards that a dealer with two of them ever draws: two aces, then A A A A 6 A A A A and any"""

_STANDS = 17
_LIMIT = 21
_BITS = 5
_MOST_OF_A_KIND = 31
"""in five bits; nobody holds more than 22 aces"""
_ACE_AND_TEN = 1 + (1 << _BITS * 9)


@functools.cache
def _observation_space() -> spaces.Tuple[Any]:
    return spaces.Tuple((spaces.Discrete(32), spaces.Discrete(11), spaces.Discrete(2)))


@functools.cache
def _action_space() -> spaces.Discrete:
    return spaces.Discrete(2)


def cards(key: Tensor, num: int) -> Tensor:
    """Return cards from a deck that never runs out.

    Args:
        key: `[2]` int32.
        num: How many.

    Returns:
        `[num]` int64: 1 an ace, 10 a ten, jack, queen or king, so four times as likely as any other.

    >>> bool(((cards(random.key(0), 5) >= 1) & (cards(random.key(0), 5) <= 10)).all())
    True
    """
    return random.randint(key, (num,), 1, 14).clamp(max=10)


@tree.struct
class Hand:
    """What matters of the cards that someone holds."""

    total: Tensor
    """`[]` int64, sum with every ace as 1"""
    held: Tensor
    """`[]` int64, how many of each card, five bits a card: aces in the lowest ones, then twos, up to tens"""

    @property
    def has_ace(self) -> Tensor:
        """Whether one of the cards is an ace, `[]` boolean."""
        return (self.held & _MOST_OF_A_KIND) > 0

    def cards(self) -> list[int]:
        """Return the cards on the host, in ascending order; in what order they were drawn is not known."""
        held = int(self.held)
        return [card for card in range(1, 11) for _ in range(held >> _BITS * (card - 1) & _MOST_OF_A_KIND)]


@tree.struct
class Hands:
    """State of the game."""

    player: Hand
    dealer: Hand
    """with the card that lies face down"""
    shown: Tensor
    """`[]` int64, the dealer's card that lies face up"""
    over: Tensor
    """`[]` boolean, whether the game has ended"""


def _one(card: Tensor) -> Tensor:
    """Return what one more of a card adds to `Hand.held`."""
    return torch.ones_like(card) << _BITS * (card - 1)


def _hand(pair: Tensor) -> Hand:
    return Hand(pair.sum(), _one(pair).sum())


def _take(hand: Hand, card: Tensor, condition: Tensor) -> Hand:
    return Hand(
        total=hand.total + torch.where(condition, card, 0),
        held=hand.held + torch.where(condition, _one(card), 0),
    )


def _has_usable_ace(hand: Hand) -> Tensor:
    return hand.has_ace & (hand.total + 10 <= _LIMIT)


def _value(hand: Hand) -> Tensor:
    return hand.total + torch.where(_has_usable_ace(hand), 10, 0)


def _says(who: str, hand: Hand) -> str:
    """Return a hand's sum in words: `"player: 18 with an ace as 11"`."""
    value = int(_value(hand))
    more = ", over 21" if value > _LIMIT else " with an ace as 11" if bool(_has_usable_ace(hand)) else ""
    return f"{who}: {value}{more}"


def _is_natural(hand: Hand) -> Tensor:
    return hand.held == _ACE_AND_TEN


def _score(hand: Hand) -> Tensor:
    value = _value(hand)
    return torch.where(value > _LIMIT, 0, value)


@tree.struct
class Blackjack:
    """The environment; it has no numbers to vary.

    The observation is a tuple of the player's sum, the dealer's face-up card (1 an ace), and whether
    the player has an ace that counts 11, each `[]` int64. Actions: 0 stick, 1 hit. When the player
    sticks the dealer draws until 17 or more. Reward: 1 for winning, -1 for losing, 0 otherwise.
    """

    render_fps = 4
    """pictures per second of a film"""

    natural: bool = tree.static(default=False)
    """whether winning with an ace and a ten as the first two cards pays 1.5; not looked at with `sab`"""
    sab: bool = tree.static(default=False)
    """the book's rule: an ace and a ten win against all but the same, even against another 21"""
    max_episode_steps: int | None = tree.static(default=None)
    """time limit; None for none"""

    def __post_init__(self) -> None:
        checks.settings(self, "Blackjack", flags=("natural", "sab"))
        checks.time_limit("Blackjack", self.max_episode_steps)

    @property
    def observation_space(self) -> spaces.Tuple[Any]:
        """The player's sum, the dealer's face-up card, whether the player has a usable ace."""
        return _observation_space()

    @property
    def action_space(self) -> spaces.Discrete:
        """0 stick, 1 hit."""
        return _action_space()

    def initial(self, key: Tensor) -> Hands:
        """Return two cards each; the dealer's come first."""
        dealt = cards(key, 4)
        return Hands(
            player=_hand(dealt[2:]),
            dealer=_hand(dealt[:2]),
            shown=dealt[0],
            over=torch.zeros((), dtype=torch.bool, device=key.device),
        )

    def transition(self, state: Hands, action: Tensor, key: Tensor) -> Hands:
        """Return the state after the player, or the dealer, has drawn from `cards(key, MOST_DRAWS)`."""
        drawn = cards(key, MOST_DRAWS)
        hits = action == 1
        player = _take(state.player, drawn[0], hits)
        dealer = state.dealer
        for card in drawn.unbind():
            dealer = _take(dealer, card, ~hits & (_value(dealer) < _STANDS))
        return Hands(player=player, dealer=dealer, shown=state.shown, over=~hits | (player.total > _LIMIT))

    def observation(self, state: Hands, key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the player's sum, the dealer's card and whether there is a usable ace, each `[]`."""
        return _value(state.player), state.shown, _has_usable_ace(state.player).to(torch.int64)

    def reward(self, state: Hands, action: Tensor, next_state: Hands, key: Tensor) -> Tensor:
        """Return the pay-off at the end of the game and 0 before, `[]` float32."""
        player, dealer = next_state.player, next_state.dealer
        reward = torch.sign(_score(player) - _score(dealer)).to(torch.float32)
        if self.sab:
            reward = torch.where(_is_natural(player) & ~_is_natural(dealer), 1.0, reward)
        elif self.natural:
            reward = torch.where(_is_natural(player) & (reward == 1), 1.5, reward)
        return torch.where(next_state.over, reward, 0.0)

    def terminal(self, state: Hands, key: Tensor) -> Tensor:
        """Return whether the player has stuck or gone over 21, `[]` boolean."""
        return state.over

    def render(self, state: Hands) -> Frame:
        """Return a picture of the table, `[H, W, 3]`; the dealer's other card is turned at the end."""
        shown, dealer, player = int(state.shown), state.dealer.cards(), state.player.cards()
        player_says = _says("player", state.player)
        if not bool(state.over):
            dealer_says = f"dealer shows {'an ace' if shown == 1 else shown}"
            return card_table.picture([shown, card_table.BACK], player, dealer_says, player_says, "")
        dealer.remove(shown)
        # The pay-off depends on nothing but the hands.
        paid = float(self.reward(state, state.shown, state, state.shown))
        verdict = f"{'player' if paid > 0 else 'dealer'} wins ({paid:+g})" if paid else "a draw (0)"
        dealer_says = _says("dealer", state.dealer)
        return card_table.picture([shown, *dealer], player, dealer_says, player_says, verdict)
