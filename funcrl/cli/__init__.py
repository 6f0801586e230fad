"""The command line; a file for each of its commands."""

from __future__ import annotations

import importlib
import io
import os
import sys
import warnings
from collections.abc import Sequence

from funcrl import __version__

_USAGE = """\
usage: funcrl COMMAND ...

Reinforcement learning, and learning from images, with many seeds at once.

commands:
  train ALGORITHM ENVIRONMENT   train one agent a seed, all in one compiled program
  train classifier DATA         likewise, of what learns from images
  sweep ALGORITHM ENVIRONMENT   train every combination of settings with every seed
  search pbt|optuna ...         find settings, many of them at once
  resume DIR                    go on with a run that was cut off, or beyond its end
  watch DIR ...                 where runs stand, while they go on
  evaluate DIR                  let the agents of a run play, and print what they earn
  extract DIR --seeds 3,        take seeds out of a run, as a run that can go on alone
  export DIR --seed 3           write an agent into a file that runs without funcrl
  serve policy.onnx             answer requests for actions over HTTP
  compare DIR DIR ...           what the seeds of runs reached, in a table and a picture
  plan ALGORITHM ENVIRONMENT    compute values and policy of an environment from its table
  list                          name the algorithms and environments there are
  completion SHELL              let bash, zsh or tcsh complete all this

  funcrl COMMAND --help         what a command takes
  funcrl --version              the version

examples:
  funcrl train ppo CartPole-v1 --seeds 16 --steps 500000
  funcrl sweep ppo CartPole-v1 --over learning_rate=1e-4,3e-4,1e-3 --seeds 16
  funcrl train ucb bernoulli --seeds 1000
  funcrl train classifier digits --seeds 8
  funcrl plan value_iteration CliffWalking-v1
"""


_EXTRAS = {
    "tyro": "cli",
    "shtab": "cli",
    "tqdm": "cli",
    "matplotlib": "cli",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "PIL": "render",
    "sklearn": "digits",
    "imageio_ffmpeg": "video",
    "optuna": "hpo",
    "cmaes": "hpo",
    "scipy": "hpo",
    "fastapi": "serve",
    "uvicorn": "serve",
    "prometheus_client": "serve",
    "onnx": "onnx",
    "ale_py": "atari",
    "cv2": "atari",
    "onnxscript": "onnx",
    "onnxruntime": "onnx",
}
"""What brings a module that may be missing."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Words after `funcrl`; those of the process by default.

    Returns:
        Exit status: 0 done, 1 not all of it, 2 bad input, 130 interrupted, 143 ended by SIGTERM.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without "×" is no reason to fail
    before = warnings.formatwarning
    # A person at a terminal wants the sentence, not the line of this library that says it.
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        return _run(words)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output has gone; keep Python from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, FileNotFoundError) else 1
    except (ValueError, TypeError) as error:
        if not _is_about_input(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        from funcrl.core.internals import CompilerError
        from funcrl.envs import HostError
        from funcrl.train import WorkerError

        if not isinstance(error, (CompilerError, HostError, WorkerError)):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if error.name not in _EXTRAS:
            raise
        extra = _EXTRAS[error.name]
        print(f"error: {error.name} is missing. Write: pip install 'funcrl[{extra}]'", file=sys.stderr)
        return 2
    finally:
        warnings.formatwarning = before


_COMMANDS = {
    "train": "train",
    "sweep": "sweep",
    "resume": "resume",
    "evaluate": "evaluate",
    "extract": "extract",
    "compare": "compare",
    "search": "search",
    "serve": "serve",
    "watch": "watch",
    "export": "export",
    "plan": "plan",
    "list": "listing",
    "completion": "completion",
}
"""Modules of the commands, of which only the one that is wanted is imported."""


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_USAGE, end="")
        return 0 if words else 2
    command, rest = words[0], words[1:]
    if command in ("-V", "--version", "version"):
        print(f"funcrl {__version__}")
        return 0
    from funcrl.core import checks

    checks.known("funcrl", "command", command, _COMMANDS)
    module = importlib.import_module(f"funcrl.cli.{_COMMANDS[command]}")
    status: int = getattr(module, f"{command}_command")(rest)
    return status


def _is_about_input(error: Exception) -> bool:
    """Errors in the house's voice, `<function>: <argument> must …`, are the user's; others are ours."""
    return ": " in str(error) and " must " in str(error)
