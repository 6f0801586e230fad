"""`funcrl plan`."""

from __future__ import annotations

import dataclasses
import shlex
import warnings
from pathlib import Path
from typing import Any

from funcrl import envs
from funcrl.algos import planning
from funcrl.cli.arguments import default_folder, parse
from funcrl.cli.progress import say
from funcrl.io import check_folder, grid_picture, grid_text, is_grid, write_plan
from funcrl.train import Solution, solve
from funcrl.train.planning import resolve_mdp, resolve_planner

_MANY_STATES = 20


@dataclasses.dataclass
class Options:
    """What `funcrl plan` takes beside the planner's own settings."""

    out: Path | None = None
    """folder to leave; runs/ALGORITHM-ENVIRONMENT by default, numbered where that is taken"""
    replace: bool = False
    """replace the plan that is in the folder"""
    max_sweeps: int = 100_000
    """sweeps over all states after which to stop in any case"""
    device: str = "cpu"
    """cpu, cuda or cuda:1"""


def plan_command(words: list[str]) -> int:
    """Plan, print values and policy, and leave a folder.

    Args:
        words: What stands after `funcrl plan`.

    Returns:
        Exit status: 0, or 1 where the values have not converged.
    """
    names = ", ".join(sorted(planning.REGISTRY))
    if not words or words[0] in ("-h", "--help"):
        print(
            "usage: funcrl plan ALGORITHM ENVIRONMENT [options]\n\n"
            "Compute values and policy of an environment from its table, without experience.\n\n"
            f"algorithms:   {names}\nenvironments: {', '.join(_plannable())}\n"
            "              and every one of Gymnasium's that has a table, as gymnasium:NAME\n\n"
            f"funcrl plan {names.split(',')[0]} --help   every option and setting, with its meaning and default"
        )
        return 0 if words else 2
    name = words[0]
    resolve_planner(name)
    env_name, config, options = parse(
        f"plan {name}",
        f"Compute values and policy of an environment by {name}, from its table.",
        ", ".join(_plannable()),
        planning.REGISTRY[name].Config(),
        Options(),
        words[1:],
    )
    mdp = resolve_mdp(env_name)
    folder = options.out or default_folder(name, env_name)
    check_folder(folder, options.replace, "plan")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solution = solve(name, mdp, config=config, device=options.device, max_sweeps=options.max_sweeps)
    own = envs.make(env_name) if envs.full_name(env_name) in envs.REGISTRY else None
    title = f"{name} {env_name}, γ = {config.gamma:g}"
    report = _report(title, own, solution)
    settings = {
        "command": shlex.join(["funcrl", "plan", *words]),
        "algorithm": name,
        "environment": env_name,
        "config": {field.name: getattr(config, field.name) for field in dataclasses.fields(config)},
        "max_sweeps": options.max_sweeps,
    }
    written = write_plan(folder, settings, solution)
    if is_grid(own):
        title += "" if bool(solution.converged[0]) else ", NOT converged"
        grid_picture(own, solution.values[0], solution.policy[0], title, folder / "plan.png")
        written.append("plan.png")
    print(report)
    print(f"\n  wrote {folder}: {', '.join(written)}")
    for warning in caught:
        say(f"warning: {warning.message}")
    return 0 if bool(solution.converged.all()) else 1


def _plannable() -> list[str]:
    return sorted(name for name in envs.REGISTRY if hasattr(envs.make(name), "outcomes"))


def _report(title: str, env: Any, solution: Solution) -> str:
    """Return what is printed: how it went, and the grid where there is one."""
    values, policy = solution.values[0], solution.policy[0]
    sweeps = int(solution.sweeps[0])
    how = "converged" if bool(solution.converged[0]) else "NOT converged"
    lines = [
        title,
        "",
        f"  {how} after {sweeps} sweeps, residual {float(solution.residuals[0, sweeps - 1]):.2g}",
        f"  expected return of an episode  {float(solution.start_values[0]):.6f}",
        "",
    ]
    if is_grid(env):
        return "\n".join(lines) + _indented(grid_text(env, values, policy))
    lines.append("  state       value  best actions")
    for state in range(min(len(values), _MANY_STATES)):
        best = (policy[state] > 1e-6).nonzero().flatten().tolist()
        lines.append(f"  {state:>5}  {float(values[state]):>10.4f}  {', '.join(map(str, best))}")
    if len(values) > _MANY_STATES:
        lines.append(f"  … and {len(values) - _MANY_STATES} more states, in values.csv")
    return "\n".join(lines)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
