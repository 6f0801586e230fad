"""Commands handed in as SLURM jobs from Python, and followed; needs the extra `slurm`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def submit(
    words: Sequence[str],
    *,
    logs: str | Path = "jobs",
    nodes: int = 1,
    tasks_per_node: int = 1,
    minutes: int = 60,
    cluster: str | None = None,
    **resources: Any,
) -> Any:
    """Hand in a command as a job whose tasks share out its seeds.

    What a scheduler cuts off before its end goes on from its checkpoint when the same words are handed in again.

    Args:
        words: What stands behind `funcrl`: `["train", "ppo", "CartPole-v1", "--seeds", "64", "--out", "runs/x"]`.
        logs: Folder for what the job says.
        nodes: Hosts.
        tasks_per_node: Ranks on each.
        minutes: After which the job is ended.
        cluster: `"slurm"`, or `"local"` for processes on this host; whichever is there by default.
        **resources: What submitit takes besides: `gpus_per_node=4`, `cpus_per_task=8`, `slurm_partition="short"`.

    Returns:
        submitit's job: `job.results()` waits, and returns the exit status of each task; `job.state` and `job.stderr()`
        follow it.

    Raises:
        ValueError: When an argument has a value that cannot be.
        ModuleNotFoundError: Without submitit.
    """
    # Here and not above: a task reads this file for the next function, and need not import torch for it.
    from funcrl.core import checks
    from funcrl.core.checks import require

    hold, instead = "be words of a command", 'Write ["train", "ppo", "CartPole-v1", "--out", "runs/x"].'
    good = not isinstance(words, str) and len(words) > 0 and all(isinstance(word, str) for word in words)
    require(good, "submit", "words", hold, words, instead)
    for name, value in (("nodes", nodes), ("tasks_per_node", tasks_per_node), ("minutes", minutes)):
        checks.integer("submit", name, value, 1)
    several = nodes * tasks_per_node > 1 and words[0] in ("train", "sweep")
    hold = "say --out where several tasks share out a run"
    require(
        not several or "--out" in words,
        "submit",
        "words",
        hold,
        " ".join(words),
        "Add a folder that all hosts see.",
    )
    import submitit

    executor = submitit.AutoExecutor(folder=Path(logs), cluster=cluster)
    executor.update_parameters(
        name="funcrl", nodes=nodes, tasks_per_node=tasks_per_node, timeout_min=minutes, **resources
    )
    return executor.submit(_run, list(words))


def _run(words: list[str]) -> int:
    from funcrl.cli import main

    return main(words)
