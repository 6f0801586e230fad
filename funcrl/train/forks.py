"""A copy of this process that does a task, and the two pipes between them.

A fork has everything that its parent has: compiled programs, environments, the user's own functions.
Nothing is imported, compiled or written down a second time. What it must not have is its parent's
part of the world: other threads do not live in it, Ctrl-C is the parent's to handle, and nothing of the
parent's is flushed or closed when it ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import torch

from funcrl.core import background
from funcrl.train import errors

GO_ON, SAVE, STOP = b"+", b"s", b"-"
"""The parent's words on an iteration: begin one more, save and begin one more, stop after this one."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: compiled programs keep the number that they were compiled under."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Channel:
    """What the child has of the pipes."""

    def __init__(self, messages: int, permits: int) -> None:
        """Remember the ends.

        Args:
            messages: Descriptor to write lines of JSON to.
            permits: Descriptor to read a byte from, one an iteration.
        """
        self._messages = messages
        self._permits = permits

    def tell(self, **message: Any) -> None:
        """Send a message."""
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(self._messages, data) :]

    def word(self) -> bytes:
        """Wait for the parent's word on one more iteration; ends this process where the parent is gone."""
        word = os.read(self._permits, 1)
        if not word:
            os._exit(1)
        return word


_TO_THE_GROUP = {signal.SIGINT, signal.SIGTERM}
"""Signals that ask a run to stop: the parent decides how, and ends its children."""


@dataclass
class Child:
    """What the parent has of a child."""

    pid: int
    messages: int
    """descriptor to read from"""
    permits: int
    """descriptor to write to"""
    rest: bytes = b""
    """the begin of a message whose end has not come yet"""
    status: int | None = None
    """exit status after the end, negative for a signal; None while it lives"""

    def send(self, word: bytes) -> None:
        """Say `GO_ON`, `SAVE` or `STOP`."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self.permits, word)

    def read(self) -> list[dict[str, Any]] | None:
        """Return the messages that have come, waiting for one; None where no more can come."""
        data = os.read(self.messages, 1 << 16)
        *lines, self.rest = (self.rest + data).split(b"\n")
        return [json.loads(line) for line in lines] if data else None

    def has_ended(self, wait: bool = False) -> bool:
        """Return whether the child is no more, and keep its status."""
        if self.status is None:
            try:
                pid, status = os.waitpid(self.pid, 0 if wait else os.WNOHANG)
            except ChildProcessError:  # somebody else has asked for all children's status
                pid, status = self.pid, 0
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def end(self) -> None:
        """Kill the child where it still lives, and close the pipes."""
        if not self.has_ended():
            os.kill(self.pid, signal.SIGKILL)
            self.has_ended(wait=True)
        for descriptor in (self.messages, self.permits):
            os.close(descriptor)

    @property
    def death(self) -> str:
        """How it ended, as a person says it."""
        if self.status is None or self.status >= 0:
            return f"ended with status {self.status}"
        try:
            name = signal.Signals(-self.status).name
        except ValueError:
            name = f"signal {-self.status}"
        return f"was killed by {name}" + (" (for want of memory?)" if name == "SIGKILL" else "")


def fork(task: Callable[[Channel], None], others: list[Child]) -> Child:
    """Start a child that does a task and ends.

    An exception is told as `{"error": ...}`, see `errors.describe`.

    Args:
        task: What to do; it tells what is to be known through its channel.
        others: Children started before, whose pipes this one must not hold open.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.flush()  # what waits here would be written twice
    told, tell = os.pipe()
    permitted, permit = os.pipe()
    parent = os.getpid()
    # No signal to the whole group between the fork and the lines in the child that leave it to the parent.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _TO_THE_GROUP)
    try:
        with warnings.catch_warnings():
            # Threads of the parent's, of which Python warns from 3.12 on, are none of the child's.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            strangers = [told, permit, *(d for other in others for d in (other.messages, other.permits))]
            _live(task, Channel(tell, permitted), strangers, parent)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.close(tell)
    os.close(permitted)
    return Child(pid, told, permit)


def _live(task: Callable[[Channel], None], channel: Channel, strangers: list[int], parent: int) -> NoReturn:
    """Be the child; never returns, whatever happens."""
    status = 1
    try:
        _settle(strangers, parent)
        try:
            task(channel)
            status = 0
        except BaseException as error:
            channel.tell(error=errors.describe(error))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _settle(strangers: list[int], parent: int) -> None:
    """Let go of what belongs to the parent."""
    signal.set_wakeup_fd(-1)
    own = os.getpid()

    def leave_to_the_parent(number: int, frame: Any) -> None:
        if os.getpid() != own:  # a process that an environment has started in turn
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A terminal sends Ctrl-C to the whole group; schedulers, and `timeout`, send SIGTERM to it.
    signal.signal(signal.SIGTERM, leave_to_the_parent)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _TO_THE_GROUP)
    background.die_with(parent)
    for descriptor in strangers:
        os.close(descriptor)
    torch.set_num_threads(1)
