"""Rules of the house that a linter does not know."""

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "funcrl").rglob("*.py"))

# What each package may import of the others; core ← ops, optim ← nets ← policies ← algos; core, ops ← envs,
# buffers; all of these ← train ← io ← cli.
ALLOWED = {
    "core": set(),
    "ops": {"core"},
    "optim": {"core"},
    "data": {"core"},
    "nets": {"core", "ops", "optim"},
    "policies": {"core", "ops", "nets"},
    "algos": {"core", "ops", "optim", "nets", "policies"},
    "envs": {"core", "ops", "data"},
    "buffers": {"core", "ops"},
    "supervised": {"core", "ops", "optim", "nets", "data"},
    "train": {"core", "ops", "optim", "nets", "policies", "algos", "envs", "buffers"},
}
ALLOWED["io"] = {*ALLOWED} - {"io"}
ALLOWED["serve"] = {*ALLOWED}
ALLOWED["cli"] = {*ALLOWED} - {"cli"}


@functools.cache
def nodes(path):
    """All of a file's syntax, which several rules look at."""
    return list(ast.walk(ast.parse(path.read_text())))


@functools.cache
def calls(path):
    """Every call of a file, with the words that name what is called."""
    return [(node, ast.unparse(node.func)) for node in nodes(path) if isinstance(node, ast.Call)]


def imports(path):
    """Yield every module that a file imports, also inside functions."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "funcrl":
                yield from (f"funcrl.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    parts = path.relative_to(ROOT / "funcrl").parts
    if len(parts) == 1:
        return
    for module in imports(path):
        package = module.split(".")[1] if module.startswith("funcrl.") else None
        if package in ALLOWED and package != parts[0]:
            assert package in ALLOWED[parts[0]], f"{path} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_pickle_and_no_network(path):
    banned = {"pickle", "cloudpickle", "dill", "joblib", "socket", "urllib", "http", "requests"}
    assert not banned & {module.split(".")[0] for module in imports(path)}
    assert not {"torch.load", "torch.save"} & {name for _, name in calls(path)}


def test_every_package_is_in_the_rule():
    packages = {path.parent.name for path in (ROOT / "funcrl").glob("*/__init__.py")}
    assert packages == set(ALLOWED)


# What a call that makes a tensor must name; otherwise torch's global settings, which belong to the
# user, decide it. Counting gives int64 whatever they say, and what exists already has its dtype.
NAMES = {
    name: {"dtype", "device"} for name in ("zeros", "ones", "full", "empty", "eye", "linspace", "tensor")
}
NAMES |= {name: {"device"} for name in ("arange", "randperm", "as_tensor")}


def decided_by_settings(path):
    """Yield every call whose result depends on torch's default dtype or device."""
    for node, called in calls(path):
        given = {keyword.arg for keyword in node.keywords}
        module, _, name = called.rpartition(".")
        if module == "torch" and not NAMES.get(name, set()) <= given:
            yield node
        elif module == "torch" and name == "where":
            values = [ast.unparse(argument) for argument in node.args]
            # A choice between two numbers has the default dtype, unless they are whole.
            if len(values) == 3 and all(
                re.fullmatch(r"-?(\d+\.\d*|torch\.(inf|nan))", x) for x in values[1:]
            ):
                yield node
        elif (module, name) == ("random", "key") and len(node.args) < 2 and "device" not in given:
            yield node


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_new_tensor_names_its_dtype_and_device(path):
    found = [f"{path}:{node.lineno}: {ast.unparse(node)}" for node in decided_by_settings(path)]
    assert not found


@pytest.mark.parametrize(
    ("line", "fine"),
    [
        ("torch.zeros(3, dtype=d, device=e)", True),
        ("torch.zeros(3, device=e)", False),
        ("torch.full((), 1.0, dtype=d)", False),
        ("torch.arange(3, device=e)", True),
        ("torch.arange(3)", False),
        ("torch.as_tensor(x)", False),
        ("torch.zeros_like(x)", True),
        ("torch.where(x > 0, 1, 0)", True),
        ("torch.where(x > 0, x, 0.0)", True),
        ("torch.where(x > 0, -1.0, torch.inf)", False),
        ("random.key(seed)", False),
        ("random.key(seed, device)", True),
    ],
)
def test_the_rule_of_dtypes_and_devices_sees_what_it_should(line, fine, tmp_path):
    (tmp_path / "file.py").write_text(line)
    assert (not list(decided_by_settings(tmp_path / "file.py"))) == fine
