"""The pages: one for every algorithm and environment, and what stands on them runs."""

import dataclasses
import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest

from funcrl import algos, envs, supervised
from funcrl.algos import planning
from funcrl.cli import main
from tests.cli.conftest import run_eagerly

DOCS = Path(__file__).parent.parent / "docs"
_spec = importlib.util.spec_from_file_location("generate_docs", DOCS / "generate.py")
docs = importlib.util.module_from_spec(_spec)
sys.modules["generate_docs"] = docs
_spec.loader.exec_module(docs)

ALGORITHMS = {**algos.REGISTRY, **planning.REGISTRY, **supervised.ALGORITHMS}


def test_every_algorithm_and_environment_has_its_page():
    made = docs.pages()
    assert [name for names in docs.FAMILIES.values() for name in names if name not in ALGORITHMS] == []
    for folder, registry in (("algorithms", ALGORITHMS), ("environments", envs.REGISTRY)):
        pages = {path for path in made if path.startswith(f"{folder}/")}
        assert pages == {f"{folder}/index.md", *(f"{folder}/{name}.md" for name in registry)}
    examples = {path.stem for path in (DOCS.parent / "examples").glob("*.py")}
    assert {f"gallery/{name}.md" for name in examples} <= made.keys()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_page_of_an_algorithm_has_a_source_and_says_what_each_setting_means(name):
    page = docs.pages()[f"algorithms/{name}.md"]
    about, _, settings = page.partition("## Use")
    assert re.search(r"\b(19|20)\d\d\b", about), "which paper or book it is from"
    for field in dataclasses.fields(ALGORITHMS[name].Config):
        (row,) = re.findall(rf"(?m)^\| `{field.name}` \|.*$", settings)
        assert row.split("|")[3].strip(), row


@pytest.mark.parametrize("name", envs.REGISTRY)
def test_a_page_of_an_environment_has_a_picture_spaces_and_what_each_field_means(name):
    page = docs.pages()[f"environments/{name}.md"]
    for text in ("| observation |", "| action |", "| time limit |", f"envs.make({name!r})"):
        assert text in page
    for field in dataclasses.fields(envs.REGISTRY[name].cls):
        (row,) = re.findall(rf"(?m)^\| `{field.name}` \|.*$", page)
        assert row.split("|")[3].strip(), row
    if hasattr(envs.make(name), "render"):
        assert f"pictures/{name}.png" in page
        assert docs.pictures()[f"environments/pictures/{name}.png"].startswith(b"\x89PNG")


def test_figures_are_those_that_are_committed():
    rows = docs.results()
    assert len(rows) > 20
    table = docs.pages()["results.md"]
    for row in rows:
        assert f"| `{row['row']}` | {row['env']} |" in table


def test_the_first_hour_runs(monkeypatch, tmp_path):
    """Block after block, in fewer steps and without a compiler."""
    run_eagerly(monkeypatch, tmp_path)
    blocks = re.findall(r"```(sh|python)\n(.*?)```", (DOCS / "first-hour.md").read_text(), re.DOTALL)
    assert len(blocks) > 8
    fewer = {"100k": "1k", "120k": "2k", "50k": "1k"}
    for kind, block in blocks:
        if kind == "python":
            exec(compile(block, "first-hour.md", "exec"), {"__name__": "__main__"})
            continue
        for line in block.splitlines():
            program, *words = shlex.split(line)
            if program == "funcrl":
                assert main([fewer.get(word, word) for word in words]) == 0, line


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs the extra docs")
def test_links_lead_somewhere_and_equations_keep_their_numbers():
    assert "(7)" in docs.pages()["algorithms/ppo.md"]
    text = docs.on_page_markdown("[x](../examples/transfer.py)", None, None, None)
    assert text == "[x](gallery/transfer.md)"
    assert "gallery/transfer.md" in docs.pages()
