"""A picture of a card table: the dealer's cards above, the player's below, and what they are worth."""

from __future__ import annotations

from collections.abc import Sequence

from funcrl.envs.drawing import BLUE, INK, RED, Canvas, Frame, Point

_FELT, _LINE = "#2e6e50", "#468a6a"
_WIDTH, _HEIGHT = 6.0, 5.3
_CARD = (1.0, 1.4)
"""width and height of a card, the table's unit"""
BACK = 0
"""stands for a card that lies face down"""


def picture(
    dealer: Sequence[int], player: Sequence[int], dealer_says: str, player_says: str, verdict: str
) -> Frame:
    """Return a picture of the table, `[H, W, 3]`.

    Args:
        dealer: Cards, 1 an ace, 10 whatever counts ten, 0 one that lies face down.
        player: Likewise.
        dealer_says: What is written beside the dealer's cards.
        player_says: And beside the player's.
        verdict: Who has won; empty while the game goes on.
    """
    canvas = Canvas((0, _WIDTH), (0, _HEIGHT), width=600, background=_FELT)
    middle = 2.66
    canvas.line([(0.3, middle), (_WIDTH - 0.3, middle)], _LINE, 2)
    for cards, says, bottom in ((dealer, dealer_says, 3.15), (player, player_says, 0.25)):
        _row(canvas, cards, bottom)
        canvas.text((0.3, bottom + _CARD[1] + 0.3), says, 0.3, "white", "lm")
    if verdict:
        canvas.rectangle(
            _WIDTH / 2 - 1.3, middle - 0.26, _WIDTH / 2 + 1.3, middle + 0.26, "white", radius=0.12
        )
        canvas.text((_WIDTH / 2, middle), verdict, 0.28, INK)
    return canvas.frame()


def _row(canvas: Canvas, cards: Sequence[int], bottom: float) -> None:
    """Lay cards from left to right, one over the other where there are many."""
    room = _WIDTH - 0.6 - _CARD[0]
    step = min(_CARD[0] + 0.12, room / max(1, len(cards) - 1))
    for number, card in enumerate(cards):
        _card(canvas, (0.3 + number * step, bottom), card)


def _card(canvas: Canvas, corner: Point, card: int) -> None:
    (x, y), (width, height) = corner, _CARD
    canvas.rectangle(x - 0.015, y - 0.015, x + width + 0.015, y + height + 0.015, INK, radius=0.1)
    canvas.rectangle(x, y, x + width, y + height, "white", radius=0.09)
    if card == BACK:
        canvas.rectangle(x + 0.08, y + 0.08, x + width - 0.08, y + height - 0.08, BLUE, radius=0.05)
        for along in (0.2, 0.4, 0.6, 0.8):
            canvas.line([(x + along, y + 0.14), (x + along, y + height - 0.14)], "#6f98c6", 2)
        return
    name, color = ("A", RED) if card == 1 else (str(card), INK)
    canvas.text((x + 0.1, y + height - 0.2), name, 0.26, color, "lm")
    canvas.text((x + width / 2, y + height / 2 - 0.08), name, 0.62, color)
