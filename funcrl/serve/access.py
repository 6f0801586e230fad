"""Who may ask, and how often."""

from __future__ import annotations

import hashlib
import hmac
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from funcrl.core.checks import require

VARIABLE = "FUNCRL_TOKENS"
"""Environment variable with tokens, `name=token,name=token`."""

_SHORTEST = 16
"""characters of a token: fewer could be guessed"""

_LOOK = 1.0
"""seconds between two looks at whether the file has changed"""


def parse_tokens(text: str, where: str) -> dict[str, str]:
    r"""Return tokens by name from lines `name=token`; commas separate them too, and `#` begins a comment.

    Raises:
        ValueError: When a line cannot be read; the token itself is not shown.

    >>> parse_tokens("anna=0123456789abcdef\n# nobody else", "tokens.txt")
    {'anna': '0123456789abcdef'}
    """
    found: dict[str, str] = {}
    lines = [part.partition("#")[0].strip() for line in text.splitlines() for part in line.split(",")]
    for number, line in enumerate(filter(None, lines), 1):
        name, equals, token = (word.strip() for word in line.partition("="))
        what = f"entry {number} of {where}"
        require(bool(name and equals), "serve", what, "be name=token", "something else")
        long = len(token) >= _SHORTEST and token.isascii() and not any(letter.isspace() for letter in token)
        hold = f"have a token of at least {_SHORTEST} letters, without spaces"
        require(long, "serve", what, hold, f"one of {len(token)}")
        require(name not in found, "serve", what, "have a name of its own", name)
        found[name] = token
    return found


class Tokens:
    """Tokens by name, read again when their file has changed, so that one can be revoked without a restart."""

    def __init__(
        self, path: Path | None, environment: Mapping[str, str], now: Callable[[], float] = time.monotonic
    ) -> None:
        """Read them.

        Args:
            path: File with a line `name=token` each.
            environment: Variables, of which `VARIABLE` counts too.
            now: The clock.

        Raises:
            ValueError: When they cannot be read.
        """
        require(path is None or path.is_file(), "serve", "--tokens", "be a file", str(path))
        self._path, self._now = path, now
        self._fixed = parse_tokens(environment.get(VARIABLE, ""), VARIABLE)
        self._looked, self._stamp = now(), self._stat()
        self._known = self._read()
        hold = f"hold at least one token, name=token, where it or {VARIABLE} is given"
        asked = path is not None or VARIABLE in environment
        require(bool(self._known) or not asked, "serve", "--tokens", hold, "none")
        self.required = asked
        """whether anybody has to have one"""

    def name_of(self, given: str | None) -> str | None:
        """Return whose token this is; None where it is nobody's. Takes as long for any wrong token."""
        self._look_again()
        found, digest = None, _digest(given or "")
        for name, known in self._known.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found if given else None

    def _look_again(self) -> None:
        if self._path is None or self._now() - self._looked < _LOOK:
            return
        self._looked = self._now()
        stamp = self._stat()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._known = self._read()
        except (ValueError, OSError) as error:
            # Whoever writes it may not be done. Nobody new counts before all of it can be read, and nobody any
            # more whose line has gone.
            self._known = {name: x for name, x in self._known.items() if x in self._still_there()}
            warnings.warn(
                f"{error} Only those still count whose lines are there as before.",
                RuntimeWarning,
                stacklevel=2,
            )

    def _still_there(self) -> set[bytes]:
        """Return the digests of all that could be a token in a file that cannot be read as a whole."""
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace") if self._path is not None else ""
        except OSError:
            text = ""
        words = [
            part.partition("#")[0].partition("=")[2].strip() for part in text.replace(",", "\n").splitlines()
        ]
        return {_digest(word) for word in (*words, *self._fixed.values()) if word}

    def _stat(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat() if self._path is not None else None
        except OSError:
            return None
        return None if found is None else (found.st_mtime_ns, found.st_size)

    def _read(self) -> dict[str, bytes]:
        named = dict(self._fixed)
        if self._path is not None:
            # What is no text becomes letters that no token has.
            text = self._path.read_text(encoding="utf-8", errors="replace")
            for name, token in parse_tokens(text, str(self._path)).items():
                require(
                    name not in named, "serve", str(self._path), f"have other names than {VARIABLE}", name
                )
                named[name] = token
        return {name: _digest(token) for name, token in named.items()}


def _digest(token: str) -> bytes:
    """Return something of one length for tokens of any, so that comparing them does not tell how long they are."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


@dataclass
class Limits:
    """How many requests each caller may make: a bucket that fills at a rate and holds a second's worth."""

    rate: float
    """requests a second; infinity for any number"""
    now: Callable[[], float] = time.monotonic
    _left: dict[str, tuple[float, float]] = field(default_factory=dict)

    def wait(self, who: str) -> float:
        """Return 0 where a caller may ask now, and counts it; else after how many seconds."""
        if self.rate == float("inf"):
            return 0.0
        now, most = self.now(), max(1.0, self.rate)
        left, then = self._left.get(who, (most, now))
        left = min(most, left + (now - then) * self.rate)
        if left < 1.0:
            self._left[who] = (left, now)
            return (1.0 - left) / self.rate
        self._left[who] = (left - 1.0, now)
        if len(self._left) > 10_000:  # who has not asked for long has a full bucket anyway
            self._left = {
                name: row for name, row in self._left.items() if now - row[1] < most / self.rate + 1.0
            }
        return 0.0
