"""Problems that checks find: named together, and put into the words of the house."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

# What torch says, and what to write then.
_ADVICE = {
    "performance drop": "Write it with operations that vmap has a rule for, out of place.",
    "inplace|in-place|match the broadcast shape": (
        "Write it out of place: x = x + y instead of x += y, torch.stack instead of x[0] = y."
    ),
    r"data-dependent|\.item\(\)|_local_scalar_dense|dynamic shape|data pointer": (
        "A Python `if` on a tensor's value cannot be traced: write torch.where(condition, a, b), "
        "and no .item(), .tolist(), .numpy(), float() or int()."
    ),
}


def together(attempts: Iterable[Callable[[], None]]) -> None:
    """Make checks that do not depend on each other, and raise all that they find at once.

    Args:
        attempts: Functions that raise `ValueError` or `TypeError` where something is wrong.

    Raises:
        ValueError: With one line a problem.
        TypeError: When every problem is a `TypeError`.
    """
    problems: list[ValueError | TypeError] = []
    for attempt in attempts:
        try:
            attempt()
        except (ValueError, TypeError) as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        kind = TypeError if all(isinstance(problem, TypeError) for problem in problems) else ValueError
        raise kind("\n".join(dict.fromkeys(map(str, problems))))


def failed(function: str, argument: str, hold: str, error: Exception, instead: str = "") -> ValueError:
    """Return the error that says what could not be done, what torch said of it, and what to write.

    Args:
        function: Who complains.
        argument: What is wrong, `"CartPole.reward"`.
        hold: What must hold.
        error: What was raised.
        instead: What to write; by default what is known of such errors.
    """
    text = str(error)
    words = f"{type(error).__name__}: {text.partition(chr(10))[0].partition('. ')[0]}"
    instead = instead or next((advice for sign, advice in _ADVICE.items() if re.search(sign, text)), "")
    return ValueError(f"{function}: {argument} must {hold}, got {words!r}. {instead}".rstrip())
