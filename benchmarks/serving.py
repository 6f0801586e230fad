"""Requests a second of `funcrl serve`, how long they take, and whether any answer is wrong.

    python benchmarks/serving.py policy.onnx                       # 10,000 requests from 50 connections
    python benchmarks/serving.py policy.onnx --rows 32 --malformed 1000

Each request has observations drawn within what the agent saw, and its answer is compared with what onnxruntime says of these
alone. Malformed requests are mutations of good ones, byte by byte and value by value: none may get a 5xx, or no answer. Client and service share
the machine, so that its cores are shared out between them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from funcrl.serve.rows import Policy, Row, open_policy, run

TOKEN = "benchmark-0123456789abcdef"


class Connection:
    """One connection that is kept, with as little around it as there can be."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: Any = None

    async def ask(self, body: bytes, token: str = TOKEN, kind: str = "application/json") -> tuple[int, bytes]:
        """Return status and content of an answer; 0 where there is none."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            head = (
                f"POST /act HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: {kind}\r\n"
            )
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
            content = await reader.readexactly(int(headers["content-length"]))
            if headers.get("connection") == "close":
                writer.close()
                self._streams = None
            return int(lines[0].split()[1]), content
        except (OSError, asyncio.IncompleteReadError):
            self._streams = None
            return 0, b""


def drawn(policy: Policy, rows: int, rng: np.random.Generator) -> tuple[bytes, list[Any]]:
    """Return a request, and the right answer."""
    (part,) = policy.observations
    low, high = part.seen if part.seen is not None else (np.float64(-1.0), np.float64(1.0))
    obs = (low + (high - low) * rng.random((rows, *part.shape))).astype(part.dtype)
    (found,) = run(policy, [Row((obs,), single=False)])
    return json.dumps({"observation": obs.tolist()}).encode(), found[0].tolist()


async def load(policy: Policy, port: int, requests: int, connections: int, rows: int) -> None:
    """Ask, and print how long answers took."""
    rng = np.random.default_rng(0)
    known = [drawn(policy, rows, rng) for _ in range(500)]
    seconds: list[float] = []
    wrong = 0
    left = iter(range(requests))

    async def work() -> None:
        nonlocal wrong
        connection = Connection(port)
        for number in left:
            body, right = known[number % len(known)]
            began = time.perf_counter()
            status, content = await connection.ask(body)
            seconds.append(time.perf_counter() - began)
            found = json.loads(content).get("action") if status == 200 else None
            wrong += found is None or not np.allclose(found, right, atol=1e-5)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(connections)))
    took = time.perf_counter() - began
    quantiles = statistics.quantiles(seconds, n=100)
    print(
        f"{requests} requests of {rows} observation(s) from {connections} connections: {requests / took:.0f} a second, "
        f"p50 {quantiles[49] * 1e3:.1f} ms, p99 {quantiles[98] * 1e3:.1f} ms, {wrong} wrong"
    )


def mutated(body: bytes, rng: random.Random) -> bytes:
    """Return a request with something wrong in it, most of the time."""
    odd = [
        b"null",
        b"true",
        b'"x"',
        b"[]",
        b"{}",
        b"NaN",
        b"1e999",
        b"-1e400",
        b"[[[[0]]]]",
        b"9" * 500,
        b"\xff\xfe",
        b"\\u0000",
    ]
    way = rng.randrange(5)
    if way == 0:  # some bytes are others
        changed = bytearray(body)
        for _ in range(rng.randrange(1, 8)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed)
    if way == 1:  # a piece is missing
        begin = rng.randrange(len(body))
        return body[:begin] + body[rng.randrange(begin, len(body)) :]
    if way == 2:  # a number is something else
        parts = body.split(b",")
        parts[rng.randrange(len(parts))] = rng.choice(odd)
        return b",".join(parts)
    if way == 3:  # it is something else
        return rng.choice(odd)
    return rng.choice(
        [b'{"observation":%s}', b'{"observation":[%s]}', b'{"carry":%s}', b"[%s]"]
    ) % rng.choice(odd)


async def abuse(policy: Policy, port: int, requests: int) -> None:
    """Ask for what cannot be, and print what came back."""
    rng, counts = random.Random(0), {}
    connection = Connection(port)
    body, _ = drawn(policy, 3, np.random.default_rng(1))
    for _ in range(requests):
        status, content = await connection.ask(mutated(body, rng))
        assert status == 200 or json.loads(content)["error"], (status, content)
        counts[status] = counts.get(status, 0) + 1
    for token, kind in (
        ("nobody-0123456789abcdef", "application/json"),
        ("", "application/json"),
        (TOKEN, "text/plain"),
    ):
        status, _ = await connection.ask(body, token, kind)
        counts[status] = counts.get(status, 0) + 1
    status, _ = await connection.ask(b" " * (1 << 21))
    counts[status] = counts.get(status, 0) + 1
    print(
        f"{requests} malformed requests: "
        + ", ".join(f"{n} × {status}" for status, n in sorted(counts.items()))
    )


async def ended(port: int, process: subprocess.Popen[bytes], policy: Policy) -> None:
    """Tell the service to stop while it is asked, and print whether an answer was cut off."""
    body, right = drawn(policy, 8, np.random.default_rng(2))
    counts = {"whole": 0, "none": 0, "wrong": 0}

    async def work() -> None:
        connection = Connection(port)
        while True:
            status, content = await connection.ask(body)
            if status == 0:
                counts["none"] += 1
                return
            good = status == 200 and np.allclose(json.loads(content)["action"], right, atol=1e-5)
            counts["whole" if good else "wrong"] += 1

    tasks = [asyncio.create_task(work()) for _ in range(20)]
    await asyncio.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    await asyncio.gather(*tasks)
    print(
        f"told to stop while 20 connections ask: {counts}, ended with {await asyncio.to_thread(process.wait)}"
    )


def main() -> None:
    """Start the service and ask."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("policy", type=Path)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--malformed", type=int, default=1000)
    options = parser.parse_args()
    policy = open_policy(options.policy)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "funcrl", "serve", str(options.policy), "--port", str(port)]
    environment = {**os.environ, "FUNCRL_TOKENS": f"benchmark={TOKEN}"}
    process = subprocess.Popen(words, env=environment)
    try:
        until = time.monotonic() + 60
        while asyncio.run(Connection(port).ask(b"{}"))[0] == 0 and time.monotonic() < until:
            time.sleep(0.2)
        asyncio.run(load(policy, port, options.requests, options.connections, options.rows))
        asyncio.run(abuse(policy, port, options.malformed))
        asyncio.run(ended(port, process, policy))
    finally:
        process.kill()


if __name__ == "__main__":
    main()
