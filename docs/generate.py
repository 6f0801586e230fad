"""Pages that are made of the code: algorithms, environments, results, examples and the reference.

MkDocs calls `on_config` and `on_files`; `pages` is a pure function, which tests look at.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import io
import itertools
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from funcrl import algos, envs, supervised
from funcrl.algos import planning
from funcrl.algos.presets import PRESETS
from funcrl.cli.listing import contents
from funcrl.core import random

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"

GUIDES = {
    "Environments and wrappers": "environments.md",
    "Policy gradients": "policy-gradients.md",
    "Deep Q-learning": "deep-q-learning.md",
    "Continuous control": "continuous-control.md",
    "Games": "games.md",
    "Bandits, tables and planning": "tables-and-bandits.md",
    "Learning from images": "images.md",
    "Networks of your own": "networks.md",
    "Runs and what they leave": "runs.md",
    "Search for settings": "search.md",
    "Processes, GPUs and hosts": "hosts.md",
    "Export": "export.md",
    "Serving": "serving.md",
    "Moving from other libraries": "moving.md",
    "What is promised": "promises.md",
    "How it is built": "built.md",
}

FAMILIES: dict[str, tuple[str, ...]] = {
    "Policy gradients": ("ppo", "a2c", "reinforce", "actor_critic", "impala"),
    "Deep Q-learning": ("dqn", "double_dqn", "dueling_dqn", "c51", "qr_dqn", "rainbow", "pqn"),
    "Continuous control": ("sac", "tqc", "td3", "ddpg", "discrete_sac"),
    "Tables": (
        "q_learning",
        "double_q_learning",
        "sarsa",
        "expected_sarsa",
        "n_step_sarsa",
        "dyna_q",
    ),
    "Bandits": (
        "epsilon_greedy",
        "decaying_epsilon",
        "optimistic",
        "ucb",
        "thompson_beta",
        "thompson_gaussian",
        "gradient_bandit",
        "boltzmann",
        "linucb",
        "neural_epsilon_greedy",
        "neural_thompson",
    ),
    "Planning": tuple(planning.REGISTRY),
    "Learning from images": tuple(supervised.ALGORITHMS),
}
"""Algorithms by what they have in common, in the order of the pages."""

PACKAGES = (
    "funcrl.train",
    "funcrl.algos.protocol",
    "funcrl.envs",
    "funcrl.buffers.uniform",
    "funcrl.buffers.prioritised",
    "funcrl.buffers.sequence",
    "funcrl.core.random",
    "funcrl.core.tree",
    "funcrl.core.jit",
    "funcrl.nets",
    "funcrl.optim",
    "funcrl.ops",
    "funcrl.policies",
    "funcrl.data",
    "funcrl.supervised",
    "funcrl.io",
)
"""What a person imports, a page each."""


def on_config(config: Any) -> Any:
    """Tell MkDocs in which order pages stand."""
    made = pages()

    def those_in(folder: str) -> list[dict[str, str]]:
        inside = [path for path in made if path.startswith(f"{folder}/") and not path.endswith("index.md")]
        return [{Path(path).stem: path} for path in inside]

    families = [
        {family: [{name: f"algorithms/{name}.md"} for name in names]} for family, names in FAMILIES.items()
    ]
    config["nav"] = [
        {"funcrl": "index.md"},
        {"The first hour": "first-hour.md"},
        {"Guides": [{title: path} for title, path in GUIDES.items()]},
        {"Algorithms": ["algorithms/index.md", *families]},
        {"Environments": ["environments/index.md", *those_in("environments")]},
        {"Gallery": ["gallery/index.md", *those_in("gallery")]},
        {"Results": "results.md"},
        {"Reference": those_in("reference")},
    ]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Give MkDocs the pages and pictures that are made."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    for path, picture in pictures().items():
        files.append(File.generated(config, path, content=picture))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Lead links to examples to their pages, and put in the results of the games."""
    games = [row for row in results() if row["env"].endswith("-MinAtar")]
    markdown = markdown.replace("<!-- results of the games -->", _table_of_results(games))
    return re.sub(r"\]\(\.\./examples/(\w+)\.py\)", r"](gallery/\1.md)", markdown)


@functools.cache
def pages() -> dict[str, str]:
    """Return all pages that are made, by path, as Markdown."""
    return {
        "algorithms/index.md": _algorithms(),
        **{f"algorithms/{name}.md": _algorithm(name) for names in FAMILIES.values() for name in names},
        "environments/index.md": _environments(),
        **{f"environments/{name}.md": _environment(name) for name in sorted(envs.REGISTRY)},
        "gallery/index.md": _gallery(),
        **{f"gallery/{path.stem}.md": _example(path) for path in _examples()},
        "results.md": _results(),
        **{f"source/{name}.md": _source(name) for name in _modules_shown()},
        **{f"reference/{name}.md": f"# {name}\n\n::: {name}\n" for name in PACKAGES},
    }


@functools.cache
def pictures() -> dict[str, bytes]:
    """Return a picture of each environment that can draw itself, as PNG, by path."""
    from PIL import Image

    found = {}
    for name in envs.REGISTRY:
        env = envs.make(name)
        if hasattr(env, "render"):
            state = _looking_alive(env)
            data = io.BytesIO()
            Image.fromarray(env.render(state)).save(data, "PNG")
            found[f"environments/pictures/{name}.png"] = data.getvalue()
    return found


STEPS_BEFORE_A_PICTURE = 25
"""after which there is something to see"""


def _looking_alive(env: Any) -> Any:
    """Return a state after some steps."""
    key, state = random.key(1), envs.reset(env, random.key(0))
    space = env.action_space
    space.seed(0)
    for k_step in random.split(key, STEPS_BEFORE_A_PICTURE):
        action = torch.as_tensor(space.sample())
        state, step = envs.step(env, state, action, k_step)
        if step.terminated or step.truncated:
            state = envs.reset(env, k_step)
    return state.inner


# ---------------------------------------------------------------------------------------------------------------


def _module(name: str) -> Any:
    return {**algos.REGISTRY, **planning.REGISTRY, **supervised.ALGORITHMS}[name]


def _algorithms() -> str:
    lines = ["# Algorithms", "", "Each is a module of pure functions of one lane, see "]
    lines[-1] += "[the protocol](../reference/funcrl.algos.protocol.md)."
    for family, names in FAMILIES.items():
        lines += ["", f"## {family}", "", "| | |", "|---|---|"]
        lines += [f"| [`{name}`]({name}.md) | {_first_paragraph(_module(name))} |" for name in names]
    return "\n".join(lines) + "\n"


def _algorithm(name: str) -> str:
    module = _module(name)
    title, *rest = inspect.getdoc(module).split("\n\n")  # type: ignore[union-attr]
    parts = [f"# {name}", " ".join(title.split()), _linked(markdown("\n\n".join(rest)), module)]
    parts += ["## Use", _use(name, module)]
    parts += ["## Settings", _table_of_fields(module.Config)]
    if getattr(module, "METRICS", ()):
        figures = [f"- `{metric}`: {MEANINGS[metric]}" for metric in module.METRICS]
        parts += ["## What it reports", "\n".join(figures)]
    parts += _presets(name)
    rows = [row for row in results() if row["row"].partition("/")[0] == name]
    if rows:
        parts += ["## What it reaches", _table_of_results(rows)]
    drawn = sorted((DOCS / "learning").glob(f"{name}_*.png")) + sorted(
        (DOCS / "learning").glob(f"{name}_*.gif")
    )
    for path in drawn:
        what = "an episode" if path.suffix == ".gif" else "returns of all seeds while learning"
        caption = f"{path.stem.removeprefix(name).replace('_', ' ').strip()}: {what}"
        parts += [caption, f"![{name}, {caption}](../learning/{path.name})"]
    wrong = [f"- {_code(one)}: {text}" for one in _used(module) if (text := _often_wrong(one))]
    if wrong:
        parts += ["## What is often wrong elsewhere", "\n".join(wrong)]
    parts += ["## Functions", _functions(module)]
    return "\n\n".join(part for part in parts if part) + "\n"


MEANINGS = {
    "accuracy": "share of images whose class was told rightly",
    "actor_grad_norm": "global norm of the actor's gradient, before clipping",
    "actor_loss": "what the actor minimises, the mean of the batch",
    "baseline": "average reward so far, with which a reward is compared",
    "bonus": "what the pulled arm's value was raised by",
    "changed_states": "states in which the last step has changed the policy",
    "clip_fraction": "share of rows whose probability ratio lies outside of 1 ± the clip range",
    "critic_grad_norm": "global norm of the critics' gradient, before clipping",
    "critic_loss": "what the critics minimise, the mean of the batch",
    "entropy": "entropy of the policy in nats, the mean of the batch; it falls as the policy becomes sure",
    "epsilon": "probability of an action at random",
    "error": "mean squared error of a pixel",
    "estimated_value": "reward that the model expected of the chosen actions",
    "exploration": "ε, or the temperature of a Boltzmann policy",
    "grad_norm": "global norm of the gradient, before clipping",
    "greedy_share": "share of pulls so far that were of the arm that looks best now",
    "improvable_states": "states in which another action is better by more than the threshold",
    "interval": "half the width of the confidence interval of the chosen actions",
    "kl": "estimate of the divergence of the policy from the one that collected the window; of an autoencoder, of its latent numbers from a "
    "normal distribution",
    "learning_rate": "step size of the last gradient step",
    "loss": "what is minimised, the mean of the batch",
    "policy_loss": "the policy's part of the loss",
    "q": "mean value of the actions in the batch; far above any return that can be had, it overestimates",
    "residual": "largest change of a value in the last sweep",
    "rho": "mean of the clipped importance weights",
    "spread": "how far the best and the worst arm's values are apart",
    "std": "standard deviation of the posterior of the arm that looks best",
    "td_error": "mean of |target - prediction|",
    "temperature": "α, what entropy weighs",
    "uncertainty": "standard deviation of the expected reward of the chosen actions",
    "used": "share of the steps of the window whose return is known, which were learnt from",
    "value": "value of what looks best",
    "value_loss": "the value function's part of the loss",
}
"""What the figures say that algorithms report."""


def _use(name: str, module: Any) -> str:
    if name in supervised.ALGORITHMS:
        words = f"train {name} digits --seeds 8"
    elif name in planning.REGISTRY:
        words = f"plan {name} CliffWalking-v1"
    elif name in FAMILIES["Bandits"]:
        images = name.startswith("neural") or name == "linucb"
        words = f"train {name} {'digits' if images else 'bernoulli'} --seeds 100"
    elif name in FAMILIES["Tables"]:
        words = f"train {name} CliffWalking-v1 --seeds 100"
    elif name in FAMILIES["Continuous control"] and name != "discrete_sac":
        words = f"train {name} Pendulum-v1 --seeds 16"
    else:
        words = f"train {name} CartPole-v1 --seeds 16"
    return f"```sh\nfuncrl {words}\n```"


def _presets(name: str) -> list[str]:
    found = PRESETS.get(name, {})
    if not found:
        return []
    lines = ["| `--preset` | environment | steps | settings |", "|---|---|---|---|"]
    for preset, by_env in found.items():
        for (num_steps, settings), same in itertools.groupby(by_env.items(), lambda item: item[1]):
            env = ", ".join(name for name, _ in same)
            changed = ", ".join(f"`{key}={value}`" for key, value in settings.items()) or "the defaults"
            lines.append(f"| {preset} | {env} | {num_steps:,} | {changed} |")
    about = "With `--preset NAME` these are the defaults, and as many steps. " + " ".join(
        WHOSE[preset] for preset in found
    )
    return ["## Settings of reference results", about, "\n".join(lines)]


WHOSE = {
    "cleanrl": "`cleanrl`: CleanRL's for classic control (Huang et al. 2022).",
    "zoo": "`zoo`: RL Baselines3 Zoo's, tuned for each environment (Raffin 2020).",
    "zoo-slow": "`zoo-slow`: the zoo's with a quarter of the learning rate, with which the last policy is less a matter of chance.",
    "purejaxrl": "`purejaxrl`: PureJaxRL's for MinAtar (Lu et al. 2022).",
    "purejaxql": "`purejaxql`: those of PQN's authors for MinAtar (Gallici et al. 2024).",
    "dopamine": "`dopamine`: Dopamine's for MinAtar (Obando-Ceron & Castro 2021).",
    "own": "`own`: our own, for environments of our own.",
    "recurrent": "`recurrent`: our own, for environments that ask for a memory.",
}
"""Where the settings of each preset come from."""


VERBS = ("init", "act", "greedy", "prepare", "update")


def _functions(module: Any) -> str:
    lines = [
        f"- {_code(getattr(module, verb))}: {_first_paragraph(getattr(module, verb))}"
        for verb in VERBS
        if hasattr(module, verb)
    ]
    equations = [
        f"- {_code(function)}: {_first_paragraph(function)}"
        for name, function in vars(module).items()
        if inspect.isfunction(function)
        and name not in VERBS
        and re.match(r"\(\d", inspect.getdoc(function) or "")
    ]
    if equations:
        lines += ["", "And the equations, by their numbers:", "", *equations]
    name = module.__name__
    return "\n".join([*lines, "", f"All of it: [`{name}`](../source/{name}.md)."])


def _linked(text: str, module: Any) -> str:
    """Lead the names of settings and functions in a text to their lines."""
    places = {
        name: (one.__module__, inspect.getsourcelines(one)[1])
        for name, one in vars(module).items()
        if inspect.isfunction(one)
    }
    for cls in _made_of(module.Config):
        first = inspect.getsourcelines(cls)[1] - 1
        for node in _definition(cls).body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                places[node.target.id] = cls.__module__, first + node.lineno

    def link(found: re.Match[str]) -> str:
        if found[1] not in places:
            return found[0]
        return _to_line(*places[found[1]], found[1] + found[2])

    return re.sub(r"(?<!`)`([a-z_]+)((?:=[^`]*)?)`(?!`)", link, text)


def _often_wrong(function: Any) -> str:
    """Return what the docstring of a function says that people get wrong with it."""
    found = re.search(r"Often wrong: (.*?)(\n\n|$)", inspect.getdoc(function) or "", re.DOTALL)
    return " ".join(found[1].split()) if found else ""


@functools.cache
def _used(module: Any) -> list[Any]:
    """Return the functions of an algorithm, and those that it and what it shares with its family call."""
    found = dict.fromkeys(one for one in vars(module).values() if inspect.isfunction(one))
    waiting, seen = [module], set[Any]()
    while waiting:
        one = waiting.pop(0)
        seen.add(one)
        for value in _named(one):
            if inspect.isfunction(value):
                found[value] = None
                value = sys.modules[value.__module__]
            if value.__name__.startswith("funcrl.algos.") and value not in seen:
                waiting.append(value)
    return list(found)


@functools.cache
def _named(module: Any) -> list[Any]:
    """Return the functions and modules that the code of a module names, in its order."""
    found: list[Any] = []
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Name):
            found.append(getattr(module, node.id, None))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.append(getattr(getattr(module, node.value.id, None), node.attr, None))
    return [value for value in found if inspect.isfunction(value) or inspect.ismodule(value)]


def _code(function: Any) -> str:
    """Return the name of a function and its arguments, as a link to the line where it is."""
    line = inspect.getsourcelines(function)[1]
    arguments = ", ".join(inspect.signature(function).parameters)
    return _to_line(function.__module__, line, f"{function.__name__}({arguments})")


def _to_line(module: str, line: int, text: str) -> str:
    """Return a text as a link to a line; MkDocs does not know the anchors of lines, so it is no link of Markdown."""
    return f'<a href="../source/{module}.html#__codelineno-0-{line}"><code>{text}</code></a>'


@functools.cache
def _modules_shown() -> tuple[str, ...]:
    """Return the modules that algorithms and environments are made of, to whose lines pages lead."""
    found = {entry.cls.__module__ for entry in envs.REGISTRY.values()}
    for names in FAMILIES.values():
        for module in map(_module, names):
            found.add(module.__name__)
            found |= {one.__module__ for one in vars(module).values() if inspect.isfunction(one)}
            found |= {one.__module__ for one in _used(module) if _often_wrong(one)}
            found |= {cls.__module__ for cls in _made_of(module.Config)}
    return tuple(sorted(name for name in found if name.startswith("funcrl.")))


def _source(name: str) -> str:
    text = Path(inspect.getfile(sys.modules[name])).read_text(encoding="utf-8")
    return f'# {name}\n\n````python linenums="1"\n{text}````\n'


@functools.cache
def _listed() -> dict[str, dict[str, Any]]:
    """Return what `funcrl list` says of each environment."""
    return {one["name"]: one for one in contents()["environments"]}


def _environments() -> str:
    lines = [
        "# Environments",
        "",
        "Those that live on the device; any other that Gymnasium knows runs on the host.",
        "",
    ]
    lines += ["| | | observation | action |", "|---|---|---|---|"]
    for name, one in _listed().items():
        seen, done = one["observation_space"], one["action_space"]
        lines.append(f"| [{name}]({name}.md) | {one['what']} | `{seen}` | `{done}` |")
    return "\n".join(lines) + "\n"


def _environment(name: str) -> str:
    entry, listed = envs.REGISTRY[name], _listed()[name]
    about = inspect.getdoc(sys.modules[entry.cls.__module__]).split("\n\n")[1:]  # type: ignore[union-attr]
    parts = [f"# {name}", listed["what"], markdown("\n\n".join(about))]
    if f"environments/pictures/{name}.png" in pictures():
        parts.append(f"![{name}](pictures/{name}.png){{ width=360 }}")
    parts += [markdown(inspect.getdoc(one) or "") for one in _described(entry.cls)]
    limit = listed["max_episode_steps"]
    spaces = [
        "| | |",
        "|---|---|",
        f"| observation | `{listed['observation_space']}` |",
        f"| action | `{listed['action_space']}` |",
        f"| time limit | {'none' if limit is None else f'{limit} steps'} |",
    ]
    parts += ["## What is a good return", RETURNS[name]]
    parts += ["## Spaces", "\n".join(spaces), "## Fields", _table_of_fields(entry.cls, entry.params)]
    rows = [row for row in results() if row["env"] == name]
    if rows:
        parts += ["## What agents reach", _table_of_results(rows)]
        stem = re.sub(r"_v\d+$", "", re.sub(r"\W", "_", name.lower()))
        drawn = sorted((DOCS / "learning").glob(f"*_{stem}.png"))
        parts += [f"![{path.stem.replace('_', ' ')}](../learning/{path.name})" for path in drawn]
    parts.append(f"```python\nfrom funcrl import envs\n\nenv = envs.make({name!r})\n```")
    module = entry.cls.__module__
    parts.append(f"The code: [`{module}`](../source/{module}.md).")
    return "\n\n".join(part for part in parts if part) + "\n"


_BANDIT = "What counts is the regret, which is 0 for who knows the best arm: see the bound of Lai & Robbins in the curve."
_DQN_OF_ITS_PAPER = "Young & Tian 2019 draw curves of DQN over 30 runs that reach about {} after 5M steps."
RETURNS: dict[str, str] = {
    "Acrobot-v1": "-500 for hanging still. Gymnasium calls -100 solved; CleanRL's PPO reaches -86.4 ± 1.3.",
    "Asterix-MinAtar": _DQN_OF_ITS_PAPER.format("16.5"),
    "BernoulliBandit-v0": _BANDIT,
    "Blackjack-v1": "-0.043 a game for who plays best (by dynamic programming over all hands).",
    "Breakout-MinAtar": _DQN_OF_ITS_PAPER.format("10") + " PureJaxRL's plot of PPO shows 35 to 44 after 10M.",
    "CartPole-v1": "500: one for each step up to the time limit. Gymnasium calls 475 solved.",
    "CliffWalking-v1": "-13, by planning: `funcrl plan value_iteration CliffWalking-v1 --gamma 1`.",
    "CliffWalkingSlippery-v1": "-64.71, by planning with γ = 1.",
    "Corridor-v0": "0.2, by planning with γ = 1; the closed form stands above.",
    "DigitsBandit-v0": "1 for who recognises every digit, 0.1 by chance.",
    "DriftingBandit-v0": _BANDIT,
    "Driving-v0": "31.4 a round of the track; the driver that is described above earns 73.1.",
    "Freeway-MinAtar": _DQN_OF_ITS_PAPER.format("50"),
    "FrozenLake-v1": "0.82, by planning with γ = 1 and without a time limit; Gymnasium calls 0.70 solved.",
    "FrozenLake8x8-v1": "1, by planning with γ = 1 and without a time limit; Gymnasium calls 0.85 solved.",
    "GaussianBandit-v0": _BANDIT,
    "GridNavigation-v0": "1.01 less 0.01 for each move of the shortest path, -0.32 for who never arrives.",
    "MountainCar-v0": "-200 for who never arrives. Gymnasium calls -110 solved; the zoo's DQN reaches -100.8 ± 9.9.",
    "MountainCarContinuous-v0": "100 less the fuel, 0 for standing still. Gymnasium calls 90 solved; the zoo's SAC reaches 94.7 ± 1.1.",
    "Pendulum-v1": "0 for who stands upright from the beginning. From starts at random the zoo's SAC reaches -157, its PPO -172.",
    "PositionOnlyCartPole-v0": "500, as CartPole-v1, for who remembers at least the step before.",
    "RepeatFirst-v0": "100: one for each step.",
    "Seaquest-MinAtar": _DQN_OF_ITS_PAPER.format("20"),
    "SpaceInvaders-MinAtar": _DQN_OF_ITS_PAPER.format("45"),
    "TMaze-v0": "4 with a memory, 1.95 for who goes ahead and guesses.",
    "Taxi-v3": "7.93 on average over starts, by planning with γ = 1.",
    "Taxi-v4": "7.93 on average over starts, by planning with γ = 1.",
}
"""The best that can be had in each environment, or what is known to have been reached; curves are read off pictures."""


def _described(cls: type) -> list[type]:
    """Return a class and those that it is made of, as far as they are environments with something to say."""
    return [one for one in cls.__mro__ if one.__module__.startswith("funcrl.envs") and one.__doc__]


def _examples() -> list[Path]:
    return sorted((ROOT / "examples").glob("*.py"))


def _gallery() -> str:
    lines = ["# Gallery", "", "Each is a script in `examples/` that a test runs."]
    for path in _examples():
        title = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).split("\n\n")[0]  # type: ignore[union-attr]
        lines += ["", f"## [{path.stem}]({path.stem}.md)", "", " ".join(title.split())]
        lines += ["", f"[![{path.stem}](../{DRAWN[path.stem]}){{ width=480 }}]({path.stem}.md)"]
    return "\n".join(lines) + "\n"


DRAWN = {
    "autoencoder": "learning/autoencoder_digits.png",
    "bandits": "bandits.png",
    "cliff_walking": "cliff_walking.png",
    "grid_navigation": "grid_navigation.png",
    "memory": "learning/memory.png",
    "overestimation": "overestimation.png",
    "own_environment": "own_environment.png",
    "pictures": "environments/gridnavigation_v0.png",
    "split_network": "split_network.png",
    "transfer": "learning/transfer.png",
}
"""What each example draws, where it is committed."""


def _example(path: Path) -> str:
    source = path.read_text(encoding="utf-8")
    title, _, rest = ast.get_docstring(ast.parse(source)).partition("\n\n")  # type: ignore[union-attr]
    commands, _, about = rest.partition("\n\n")
    picture = f"![{path.stem}](../{DRAWN[path.stem]})"
    code = source.split('"""', 2)[2].strip()
    parts = [f"# {path.stem}", " ".join(title.split()), f"```sh\n{commands}\n```", about, picture]
    return "\n\n".join([part for part in parts if part] + [f"```python\n{code}\n```"]) + "\n"


# ---------------------------------------------------------------------------------------------------------------


@functools.cache
def results() -> tuple[dict[str, Any], ...]:
    """Return the committed figures of `benchmarks/learning.py`, newest first, one of each row and set of seeds."""
    learning = _benchmark("learning")
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json"), reverse=True):
        document = json.loads(path.read_text(encoding="utf-8"))
        for row in document.get("learning", []):
            if row["row"] in learning.ROWS:
                told = learning.ROWS[row["row"]]
                more = {"env": told.env, "reference": told.reference, "target": told.target}
                found.setdefault((row["row"], str(row["seeds"])), row | more | {"date": path.name[:10]})
    return tuple(found.values())


def _benchmark(name: str) -> Any:
    import importlib.util

    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _results() -> str:
    about = (
        "What agents reach with the references' settings: the interquartile mean over seeds and its 95 % bootstrap "
        "interval (Agarwal et al. 2021), and the worst seed; with few seeds an interval says little. The target stands with "
        "where it comes from. Where a row stands more than once, the later seeds are ones that nobody had looked at "
        "before. A row is the algorithm and the settings: those of its preset, as its page lists them, or the defaults; "
        "`-forgetful` is without a memory, `-slow` with a quarter of the zoo's learning rate, `-5M`, `-2M` and `-500k` with fewer steps than the preset's. To repeat one in a checkout: "
        "`python benchmarks/learning.py ROW --first-seed 0 --seeds 16`, with the seeds of its line; `benchmarks/results/` has all settings."
    )
    rows = sorted(results(), key=lambda row: (row["row"], row["seeds"][0]))
    return f"# Results\n\n{about}\n\n{_table_of_results(rows)}\n"


def _table_of_results(rows: Iterable[dict[str, Any]]) -> str:
    """Return rows as a table; what is only there for comparison has no verdict."""
    lines = [
        "| row | environment | steps | target | reached | 95 % interval | worst | seeds | met? | date |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        figures = row[row["statistic"]]
        interval = figures["interval_95"]
        spread = "–" if interval is None else f"[{interval[0]:g}, {interval[1]:g}]"
        worst = "–" if figures["worst"] is None else f"{figures['worst']:g}"
        seeds = f"{row['seeds'][0]} to {row['seeds'][-1]}"
        compared = row["reference"] not in ("for comparison", "chance 1.95")
        verdict = "" if not compared else "met" if figures["iqm"] >= row["target"] else "**missed**"
        target = f"{row['target']:g} ({row['reference']})" if compared else row["reference"]
        lines.append(
            f"| `{row['row']}` | {row['env']} | {row['steps']:,} | {target} "
            f"| {figures['iqm']:g} | {spread} | {worst} | {seeds} | {verdict} | {row['date']} |"
        )
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------------------------


def _first_paragraph(documented: Any) -> str:
    return " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split())


def _table_of_fields(cls: type, changed: dict[str, Any] | None = None) -> str:
    """Return names, defaults and meanings of a struct's fields."""
    meanings = field_docs(cls)
    lines = ["| | default | |", "|---|---|---|"]
    for field in dataclasses.fields(cls):
        value = {**(changed or {})}.get(field.name, field.default)
        shown = "" if value is dataclasses.MISSING else f"`{value!r}`" if len(repr(value)) < 40 else "…"
        meaning = meanings.get(field.name, "").replace("|", "\\|")
        lines.append(f"| `{field.name}` | {shown} | {meaning} |")
    return "\n".join(lines)


def field_docs(cls: type) -> dict[str, str]:
    """Return what stands under the fields of a class and of those that it is made of."""
    found: dict[str, str] = {}
    for one in _made_of(cls):
        found |= dict(_field_docs(one))
    return found


def _made_of(cls: type) -> list[type]:
    """Return the classes of funcrl that a class is made of, the most general first and itself last."""
    return [one for one in reversed(cls.__mro__) if one.__module__.startswith("funcrl.")]


@functools.cache
def _definition(cls: type) -> ast.ClassDef:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    return definition


def _field_docs(cls: type) -> Iterator[tuple[str, str]]:
    body = _definition(cls).body
    for before, after in itertools.pairwise(body):
        named = isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name)
        if named and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            yield before.target.id, " ".join(str(after.value.value).split())  # type: ignore[union-attr]


def markdown(doc: str) -> str:
    r"""Return a docstring as Markdown: examples in fences, all else as it is.

    >>> print(markdown("Adds.\n\n>>> 1 + 1\n2"))
    Adds.
    <BLANKLINE>
    ```python
    >>> 1 + 1
    2
    ```
    """
    blocks = []
    for block in doc.split("\n\n"):
        blocks.append(f"```python\n{block}\n```" if block.lstrip().startswith(">>>") else block)
    text = "\n\n".join(blocks)
    # Numbers of equations stand far to the right, where a narrow page does not show them.
    text = re.sub(r"(?m)^(    .*\S)\s{3,}(\(\d.*\))$", r"\1   \2", text)
    # A list needs a line of its own in front.
    return re.sub(r"(?m)^((?!- |  ).+)\n(- )", r"\1\n\n\2", text)
