"""Processes of their own for tests, made as copies of this one, which has imported everything already.

They have what tests ask `subprocess.Popen` for: a session of their own, signals that do what they do in a fresh process, files
for what they say, a status. Where it matters what a fresh process imports, tests start one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class Forked:
    """A copy of this process that calls a function in a folder, and ends with the integer that it returns or exits with."""

    def __init__(self, function: Callable[[], Any], folder: Path) -> None:
        self._said = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115
        self.returncode: int | None = None
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(function, folder)

    def _become(self, function: Callable[[], Any], folder: Path) -> None:
        status = 1
        try:
            os.setsid()
            os.chdir(folder)
            # Others of a pool of threads stay with the parent, and would be waited for in vain.
            torch.set_num_threads(1)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            for number, file in enumerate(self._said, start=1):
                os.dup2(file.fileno(), number)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
            result = function()
            status = result if isinstance(result, int) else 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def poll(self) -> int | None:
        """Return its status, or None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Wait for its end, and return what it has said to standard output and to standard error."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                os.killpg(self.pid, signal.SIGKILL)
                raise TimeoutError(f"not at its end after {timeout} s: {self.said()}")
            time.sleep(0.02)
        return self.said()

    def said(self) -> tuple[str, str]:
        """Return what it has said until now."""
        texts = []
        for file in self._said:
            file.seek(0)
            texts.append(file.read())
        return texts[0], texts[1]
