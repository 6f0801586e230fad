"""`funcrl serve`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from funcrl.cli.progress import say
from funcrl.core import checks
from funcrl.core.checks import require

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclasses.dataclass
class Options:
    """What `funcrl serve` takes beside the file."""

    host: str = "127.0.0.1"
    """address to listen on; another than this host's own loopback only with tokens"""
    port: int = 8000
    """0 for any free one"""
    tokens: Path | None = None
    """file with a line name=token for each who may ask; read again when it changes. FUNCRL_TOKENS=name=token,...
    in the environment counts too"""
    rate: float = float("inf")
    """requests a second that each of them, or each address, may make"""
    max_bytes: int = 1 << 20
    """of one request"""
    max_rows: int = 4096
    """observations in one request"""
    certificate: Path | None = None
    """file with the certificate, for TLS"""
    private_key: Path | None = None
    """file with its private key"""


def serve_command(words: list[str]) -> int:
    """Answer requests for actions until told to stop.

    Args:
        words: What stands after `funcrl serve`.

    Returns:
        Exit status.
    """
    import tyro

    file = Annotated[
        tyro.conf.Positional[Path],
        tyro.conf.arg(metavar="FILE", help="policy that funcrl export has written"),
    ]
    arguments = dataclasses.make_dataclass(
        "Arguments", [("file", file), ("command", Options, dataclasses.field(default_factory=Options))]
    )
    parsed: Any = tyro.cli(
        arguments,
        args=words,
        prog="funcrl serve",
        description="Serve a policy over HTTP: POST /act answers observations with actions; /docs says how.",
        config=(tyro.conf.OmitArgPrefixes,),
    )
    return _serve(parsed.file, parsed.command)


def _serve(path: Path, options: Options) -> int:
    import uvicorn

    from funcrl.serve.access import VARIABLE, Tokens
    from funcrl.serve.app import Settings, make_app
    from funcrl.serve.rows import open_policy

    checks.integer("serve", "--port", options.port, 0)
    require(options.port < 65536, "serve", "--port", "be below 65536", options.port)
    require(options.rate > 0, "serve", "--rate", "be above 0", options.rate)
    checks.integer("serve", "--max-bytes", options.max_bytes, 1)
    checks.integer("serve", "--max-rows", options.max_rows, 1)
    both = (options.certificate is None) == (options.private_key is None)
    require(both, "serve", "--certificate", "stand beside --private-key", str(options.certificate))
    for name, given in (("--certificate", options.certificate), ("--private-key", options.private_key)):
        require(given is None or given.is_file(), "serve", name, "be a file", str(given))
    tokens = Tokens(options.tokens, os.environ)
    instead = f"Write --tokens FILE, or set {VARIABLE}."
    is_open = tokens.required or options.host in _LOOPBACK
    require(
        is_open,
        "serve",
        "--host",
        "be this host's loopback where nobody needs a token",
        options.host,
        instead,
    )
    policy = open_policy(path)
    settings = Settings(options.max_bytes, options.max_rows, rate=options.rate)
    app = make_app(policy, tokens, settings)
    scheme = "http" if options.certificate is None else "https"
    who = "with a token" if tokens.required else "without tokens, so on this host only"
    config = uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=30,
        ssl_certfile=options.certificate,
        ssl_keyfile=options.private_key,
    )

    try:
        config.load()
    except OSError as error:
        hold = "be a certificate with its private key"
        require(
            options.certificate is None, "serve", "--certificate", hold, f"{options.certificate}: {error}"
        )
        raise

    class Server(uvicorn.Server):
        """One that has ended in good order when it was told to: uvicorn sends itself the signal once more."""

        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if self.started:
                port = self.servers[0].sockets[0].getsockname()[1]
                say(f"serving {path} on {scheme}://{options.host}:{port}, {who}; /docs says how to ask")

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            before = {
                number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)
            }
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

    server = Server(config)
    server.run()
    return 0 if server.started else 1
