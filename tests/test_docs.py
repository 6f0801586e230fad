"""The pages: one for every algorithm and environment, and what stands on them runs."""

import dataclasses
import importlib.util
import inspect
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch

from funcrl import algos, envs, supervised
from funcrl.algos import planning, ppo
from funcrl.cli import main
from funcrl.core import background, jit
from funcrl.train import solve
from tests.cli.conftest import leave_unpainted, run_eagerly

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
_spec = importlib.util.spec_from_file_location("generate_docs", DOCS / "generate.py")
docs = importlib.util.module_from_spec(_spec)
sys.modules["generate_docs"] = docs
_spec.loader.exec_module(docs)
docs.STEPS_BEFORE_A_PICTURE = 2

ALGORITHMS = {**algos.REGISTRY, **planning.REGISTRY, **supervised.ALGORITHMS}


def test_every_algorithm_and_environment_has_its_page():
    made = docs.pages()
    assert [name for names in docs.FAMILIES.values() for name in names if name not in ALGORITHMS] == []
    for folder, registry in (("algorithms", ALGORITHMS), ("environments", envs.REGISTRY)):
        pages = {path for path in made if path.startswith(f"{folder}/")}
        assert pages == {f"{folder}/index.md", *(f"{folder}/{name}.md" for name in registry)}
    examples = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert {f"gallery/{name}.md" for name in examples} <= made.keys()
    assert docs.DRAWN.keys() == examples
    assert all((DOCS / picture).exists() for picture in docs.DRAWN.values())


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_page_of_an_algorithm_has_a_source_and_says_what_each_setting_means(name):
    page = docs.pages()[f"algorithms/{name}.md"]
    about, _, settings = page.partition("## Use")
    assert re.search(r"\b(19|20)\d\d\b", about), "which paper or book it is from"
    for field in dataclasses.fields(ALGORITHMS[name].Config):
        (row,) = re.findall(rf"(?m)^\| `{field.name}` \|.*$", settings)
        assert row.split("|")[3].strip(), row


def test_pages_lead_to_the_lines_that_they_speak_of():
    page = docs.pages()["algorithms/ppo.md"]
    assert "so that a time limit counts as a death" in page.partition("often wrong")[2]
    (line,) = re.findall(
        r"source/funcrl.algos.policy_gradient.ppo.html#__codelineno-0-(\d+)\"><code>clipped_obj", page
    )
    assert "ppo.html#__codelineno-0-" in page.partition("<code>kl_control</code>")[0].rpartition("<a href")[2]
    shown = docs.pages()["source/funcrl.algos.policy_gradient.ppo.md"].split('linenums="1"\n')[1]
    assert shown.splitlines()[int(line) - 1].startswith("def clipped_objective(")
    for path, text in docs.pages().items():
        for target in re.findall(r"\.\./(source/[\w.]+)\.(?:html|md)", text):
            assert f"{target}.md" in docs.pages(), (path, target)


@pytest.mark.parametrize("name", envs.REGISTRY)
def test_a_page_of_an_environment_has_a_picture_spaces_and_what_each_field_means(name):
    page = docs.pages()[f"environments/{name}.md"]
    assert docs.RETURNS[name] in page
    for text in ("| observation |", "| action |", "| time limit |", f"envs.make({name!r})"):
        assert text in page
    for field in dataclasses.fields(envs.REGISTRY[name].cls):
        (row,) = re.findall(rf"(?m)^\| `{field.name}` \|.*$", page)
        assert row.split("|")[3].strip(), row
    if hasattr(envs.make(name), "render"):
        assert f"pictures/{name}.png" in page
        assert docs.pictures()[f"environments/pictures/{name}.png"].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "name", ["CliffWalking-v1", "CliffWalkingSlippery-v1", "Corridor-v0", "FrozenLake-v1", "FrozenLake8x8-v1"]
)
def test_optimal_returns_are_those_of_planning(name):
    config = planning.value_iteration.Config(gamma=1.0)
    (best,) = solve("value_iteration", name, config=config, backend="aot_eager").start_values.tolist()
    said = float(re.match(r"-?[\d.]*\d", docs.RETURNS[name])[0])
    assert abs(best - said) < 0.006


def test_figures_are_those_that_are_committed():
    rows = docs.results()
    assert len(rows) > 20
    table = docs.pages()["results.md"]
    for row in rows:
        assert f"| `{row['row']}` | {row['env']} |" in table


def test_the_first_hour_runs(monkeypatch, tmp_path):
    """Block after block, in one process and as few steps as there are in an iteration, without a compiler."""
    leave_unpainted(monkeypatch)
    run_eagerly(monkeypatch, tmp_path)
    quickly_learnt(monkeypatch)
    monkeypatch.setattr(background, "num_cores", lambda: 1)
    blocks = re.findall(r"```(sh|python)\n(.*?)```", (DOCS / "first-hour.md").read_text(), re.DOTALL)
    assert len(blocks) > 8
    fewer = {"100k": "64", "120k": "128", "50k": "64", "2048": "128", "1024": "64"}
    for kind, block in blocks:
        if kind == "python":
            for many, few in fewer.items():
                block = block.replace(f"num_steps={many}", f"num_steps={few}")
            exec(compile(block, "first-hour.md", "exec"), {"__name__": "__main__"})
            continue
        for line in block.splitlines():
            program, *words = shlex.split(line)
            if program == "funcrl":
                assert main([fewer.get(word, word) for word in words]) == 0, line


def test_the_readme_counts_and_fits_on_a_screen_and_a_half():
    readme = (ROOT / "README.md").read_text()
    assert f"{len(ALGORITHMS)} algorithms and {len(envs.REGISTRY)} environments" in readme
    assert len(readme.splitlines()) < 80
    assert readme.count("```python") == 1
    assert readme.count("![") == 1


OTHERWISE = {
    "first-hour.md": "in its own test, which runs the commands between the blocks too",
    "export.md": "in tests/io/test_exporting.py, which has the policy that it opens",
    "hosts.md": "its blocks want a cluster",
}
"""Pages whose Python the next test leaves out."""


def blocks():
    """Return the Python of the README and of pages."""
    found = []
    for path in [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]:
        if path.name not in OTHERWISE:
            own = re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)
            found += [pytest.param(block, id=f"{path.stem}-{i}") for i, block in enumerate(own)]
    return found


@pytest.mark.parametrize("block", blocks())
def test_the_python_of_pages_runs(block, tmp_path, monkeypatch):
    """In fewer steps and eagerly, as what the library has is traced and compiled in tests of its own.

    That torch.compile takes `torch.vmap(ppo.update)` is in tests/algos/test_contracts.py. Classes of the page's own are traced, and plans, whose many sweeps
    would take longer without.
    """
    leave_unpainted(monkeypatch)
    traced = re.search(r"(?m)^class |\bsolve\(", block)
    if not traced:
        run_eagerly(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(background, "num_cores", lambda: 1)
    quickly_learnt(monkeypatch)
    for many, few in (("20_480", "128"), ("20_000", "500")):
        block = block.replace(f"num_steps={many}", f"num_steps={few}")
    monkeypatch.setattr(torch, "compile", lambda function, *, fullgraph: function)
    if traced:
        compile_before = jit._compile
        monkeypatch.setattr(jit, "_compile", lambda *given: compile_before(*given[:-1], "aot_eager"))
    if "open_run(" in block:
        small = ["--seeds", "4", "--steps", "128", "--processes", "1"]
        assert main(["train", "ppo", "CartPole-v1", *small]) == 0
    exec(compile(block, "docs", "exec"), {})


def quickly_learnt(patch):
    """Let PPO learn from shorter windows, once, where nothing else is written."""
    begin, fields = ppo.Config.__init__, ppo.Config.__dataclass_fields__
    names = [name for name in inspect.signature(begin).parameters if name != "self"]
    given = dict(zip(names, begin.__defaults__, strict=True)) | QUICK
    patch.setattr(begin, "__defaults__", tuple(given.values()))
    for name, value in QUICK.items():
        patch.setattr(fields[name], "default", value)


QUICK = {"window_length": 16, "num_epochs": 1}


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs the extra docs")
def test_links_lead_somewhere_and_equations_keep_their_numbers():
    assert "(7)" in docs.pages()["algorithms/ppo.md"]
    text = docs.on_page_markdown("[x](../examples/transfer.py)", None, None, None)
    assert text == "[x](gallery/transfer.md)"
    text = docs.on_page_markdown((DOCS / "games.md").read_text(), None, None, None)
    assert "| `ppo/Asterix-5M` | Asterix-MinAtar |" in text
    assert "gallery/transfer.md" in docs.pages()
