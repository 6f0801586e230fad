"""The command line, as a person meets it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from funcrl import __version__, envs
from funcrl.algos import REGISTRY
from funcrl.algos.presets import preset
from funcrl.cli import main
from funcrl.cli.arguments import parse_seeds
from funcrl.core import internals, jit, tree
from funcrl.io import locks, only_writer
from funcrl.train import collect
from tests.forked import Forked

UNROLLED = collect.MAX_UNROLL

# Ten steps are five calls of two: several steps a program, and no more of them than that takes.
# With eight lanes a process it has the programs of tests/train/test_train.py, which are compiled once for both.
TINY = ["--num-envs", "2", "--window-length", "10", "--hidden", "4", "--num-minibatches", "2"]


def run(capsys, *words):
    try:
        status = main(words)
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    return status, out, err


def test_version_help_and_list(capsys):
    assert run(capsys, "--version") == (0, f"funcrl {__version__}\n", "")
    for words in (["--help"], ["train", "--help"], ["list", "--help"], ["train", "ppo", "--help"]):
        status, out, _ = run(capsys, *words)
        assert status == 0
        assert "usage: funcrl" in out
    status, out, _ = run(capsys, "list")
    assert status == 0
    assert "ppo" in out
    assert "CartPole-v1" in out


def test_programs_read_the_list_too(capsys):
    status, out, _ = run(capsys, "list", "--json")
    assert status == 0
    found = json.loads(out)
    named = {one["name"]: one for one in found["environments"]}
    assert named.keys() == envs.REGISTRY.keys()
    assert named["GridNavigation-v0"]["observation_space"] == "Box[3, 8, 8]"
    assert named["BernoulliBandit-v0"]["short_names"] == ["bernoulli"]
    assert {one["name"] for one in found["algorithms"]} >= {*REGISTRY, "value_iteration", "classifier"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["se"], {"search", "serve"}),
        (["train", "pp"], {"ppo"}),
        (["train", "ppo", "Breakout"], {"Breakout-MinAtar"}),
        (["train", "ppo", "--num-env"], {"--num-envs"}),
        (["search", "optuna", "--sampl"], {"--sampler"}),
        (["watch", "--ever"], {"--every"}),
        (["list", "--js"], {"--json"}),
    ],
)
def test_a_shell_completes_words(words, offered, capsys, tmp_path):
    status, script, _ = run(capsys, "completion", "bash")
    assert status == 0
    (tmp_path / "completion.bash").write_text(script)
    asked = f"""
source {tmp_path / "completion.bash"}
COMP_WORDS=(funcrl {" ".join(words)}); COMP_CWORD={len(words)}
_shtab_funcrl
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert {word.strip() for word in done.stdout.split()} == offered


def test_a_shell_that_is_not_known_is_refused(capsys):
    status, _, err = run(capsys, "completion", "fishy")
    assert status == 2
    assert "completion: shell must be one of" in err


def test_what_only_tells_starts_no_compiler():
    commands = [["--version"], ["list"], ["train", "ppo", "--help"]]
    script = f"""
import contextlib, io, json, sys
from funcrl.cli import main
found = []
for words in {commands}:
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
        main(words)
    found.append((said.getvalue(), list(sys.modules)))
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    for words, (said, modules) in zip(commands, json.loads(done.stdout), strict=True):
        assert said, words
        assert "funcrl.cli" in modules
        # Whole packages or any part of them.
        assert not [name for name in modules if name.startswith(("torch._dynamo", "torch._inductor"))], words


def test_help_shows_every_setting_with_its_meaning_and_default(capsys):
    _, out, _ = run(capsys, "train", "ppo", "--help")
    out = " ".join(out.replace("│", " ").split())
    for text in (
        "--learning-rate FLOAT",
        "step size α of the optimiser",
        "0.00025",
        "--num-minibatches INT",
        "--seeds",
        "--out",
    ):
        assert text in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tarin"], "Did you mean 'train'"),
        (["list", "envs"], "list: arguments must be absent"),
        (["train", "pppo", "CartPole-v1"], "Did you mean 'ppo'"),
        (["train", "ppo", "CartPol-v1"], "Did you mean 'CartPole-v1'"),
        (["train", "ppo", "CartPole-v1", "--seeds", "0"], "--seeds must name at least one seed"),
        (["train", "ppo", "CartPole-v1", "--seeds", "many"], "--seeds must be a number, a range or a list"),
        (["train", "ppo", "CartPole-v1", "--seeds", "3,3"], "seeds must all differ"),
        (["train", "ppo", "CartPole-v1", "--seeds=-3,3"], "each of seeds must be at least 0, got -3"),
        (["train", "ppo", "CartPole-v1", "--steps", "511"], "num_steps must be at least 512"),
        (["train", "ppo", "CartPole-v1", "--device", "cuda:77"], "device must be present"),
        (["train", "ppo", "CartPole-v1", "--gamma", "1.5"], "gamma must lie in [0, 1], got 1.5"),
        (["train", "ppo", "CartPole-v1", "--num-envs", "4.5"], "4.5"),
        (["train", "ppo", "CartPole-v1", "--num-minibatches", "5"], "num_minibatches must divide"),
        (["train", "ppo", "CartPole-v1", "--gama", "0.9"], "--gamma"),
        (["train", "ppo", "CartPole-v1", "--activation", "tan"], "Did you mean 'tanh'"),
        (["train", "ppo"], "ENVIRONMENT"),
        (["train", "ppo", "CartPole-v1", "--seeds", "1000000000"], "seeds must be at most a million"),
        (["train", "ppo", "CartPole-v1", "--num-envs", "1000000007", "--num-minibatches", "3"], "Write 2."),
        (["train", "ppo", "CartPole-v1", "--out", "/dev/null/x"], "--out must"),
        (["train", "dqn", "CartPole-v1", "--batch-size", "20000"], "batch_size must be at most buffer_size"),
        (["train", "dqn", "CartPole-v1", "--epsilon", "1.5"], "epsilon must lie in [0, 1], got 1.5"),
        (["train", "dqn", "CartPole-v1", "--target-period", "0"], "target_period must be at least 1, got 0"),
        (["train", "dqn", "CartPole-v1", "--steps", "9"], "num_steps must be at least 10"),
        (["train", "dqn", "Pendulum-v1"], "env.action_space must be Discrete"),
        (["train", "dqn", "CartPole-v1", "--buffer-size", "1000000000000"], "That takes 46.0 TB a lane"),
        (["train", "dqn", "CartPole-v1", "--preset", "zo"], "Did you mean 'zoo'"),
        (
            ["train", "dqn", "Pendulum-v1", "--preset", "zoo"],
            "For dqn on Pendulum-v1 there is none. zoo is there for ddpg and ppo and sac and td3.",
        ),
        (
            ["train", "pqn", "CartPole-v1", "--preset", "zoo"],
            "For pqn on CartPole-v1 there is none. zoo is there",
        ),
        (["train", "ucb", "bernoulli", "--preset", "zoo"], "Presets are there for dqn"),
    ],
)
def test_bad_input_ends_with_2_and_a_sentence_and_leaves_nothing(
    capsys, tmp_path, monkeypatch, words, message
):
    monkeypatch.chdir(tmp_path)
    status, _, err = run(capsys, *words)
    assert status == 2
    assert message in " ".join(err.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unless_told_to(capsys, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    run_before = '{"command": "funcrl train", "algorithm": "ppo", "seeds": [0]}'
    (folder / "config.json").write_text(run_before)
    status, _, err = run(capsys, "train", "ppo", "CartPole-v1", "--out", str(folder), *TINY)
    assert status == 2
    assert "--replace" in err
    # Also with --replace, bad settings are found before anything is removed.
    for bad in (["--gamma", "7"], ["--seeds", f"{2**64},"], ["--activation", "tan"]):
        status, *_ = run(capsys, "train", "ppo", "CartPole-v1", "--out", str(folder), "--replace", *bad)
        assert status == 2
    assert (folder / "config.json").read_text() == run_before


def test_exploration_that_does_not_end_is_told(uncompiled, unpainted, capsys):
    words = ["train", "q_learning", "CliffWalking-v1", "--seeds", "1", "--processes", "1", "--steps", "100"]
    assert main([*words, "--exploration-steps", "5000"]) == 0
    assert (
        "over 5,000 steps, which this run does not have. Write --exploration-steps 50 "
        in capsys.readouterr().err
    )
    assert main([*words, "--exploration-steps", "50"]) == 0
    assert "does not have" not in capsys.readouterr().err


def test_a_preset_gives_way_to_what_is_written_beside_it(capsys, monkeypatch):
    asked = []

    def make_plan(algorithm, env, **rest):
        asked.append(rest)
        raise SystemExit(0)

    monkeypatch.setattr("funcrl.cli.train.make_plan", make_plan)
    words = ["train", "dqn", "CartPole-v1", "--preset", "zoo", "--learning-rate", "0.5"]
    run(capsys, *words)
    run(capsys, *words, "--steps", "700")
    for plan, steps in zip(asked, (50_000, 700), strict=True):
        assert plan["num_steps"] == steps
        assert plan["config"] == tree.replace(preset("dqn", "zoo", "CartPole-v1").config, learning_rate=0.5)


def test_seeds_are_written_in_three_ways():
    assert parse_seeds("4") == range(4)
    assert parse_seeds("3:6") == range(3, 6)
    assert parse_seeds("9,2") == [9, 2]
    for text in ("", "1:2:3", "6:3", "x", "1.5"):
        with pytest.raises(ValueError, match="--seeds must"):
            parse_seeds(text)


def copy(folder, *words):
    """The command in a copy of this process, with as many steps in a program as users have."""

    def run():
        collect.MAX_UNROLL = UNROLLED
        return main(words)

    return Forked(run, folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a finished run in `run`, and what it said; by a process that begins with nothing."""
    folder = tmp_path_factory.mktemp("finished")
    words = ["train", "ppo", "CartPole-v1", "--seeds", "16", "--steps", "320", "--out", "run", *TINY]
    done = subprocess.run(
        [sys.executable, "-m", "funcrl.cli", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done
    return folder, done.stdout, done.stderr


@pytest.mark.compiled
def test_the_main_job_leaves_its_folder(finished):
    folder, out, err = finished
    assert "compiling" in err
    assert "100%" in err
    for text in ("interquartile mean", "95 % interval", "best", "worst", "not finite", "steps/s", "none"):
        assert text in out
    run = folder / "run"
    names = {path.name for path in run.iterdir()}
    tables = {"metrics.jsonl", "metrics.csv", "returns.csv", "times.csv"}
    assert names == {"config.json", "checkpoint", "curve.png", ".lock", *tables}
    assert len((run / "returns.csv").read_text().splitlines()) == 1 + 16 * 16
    settings = json.loads((run / "config.json").read_text())
    assert settings["config"]["num_envs"] == 2
    assert settings["seeds"] == list(range(16))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing-here"], "must be the folder of a run, got one without config.json"),
        (
            ["run", "--steps", "many"],
            "--steps must be a whole number, got 'many'. Write 500000, 5e5 or 500k.",
        ),
        (["run", "--steps", "160"], "--steps must be at least 320, which are planned already, got 160"),
        (["run", "--checkpoint-every", "0"], "--checkpoint-every must be above 0, got 0"),
        (["run", "--keep-checkpoints", "0"], "--keep-checkpoints must be at least 1, got 0"),
    ],
)
def test_resuming_refuses_what_cannot_be(finished, capsys, monkeypatch, words, message):
    finished, *_ = finished
    monkeypatch.chdir(finished)
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    extra = ["--steps", "640"] if "--steps" not in words else []
    assert main(["resume", *words, *extra]) == 2
    assert message in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()} == before


def test_a_finished_run_is_not_begun_again_and_can_be_prolonged(
    finished, uncompiled, unpainted, tmp_path, capsys
):
    shutil.copytree(finished[0] / "run", tmp_path / "run")
    assert main(["resume", "run"]) == 0
    assert "320 steps of each seed are done. To go on: funcrl resume run --steps N" in capsys.readouterr().err
    for _ in range(2):  # the second time it is remembered how far it was to go
        assert main(["resume", "run", "--steps", "0.34k"]) == 0
    assert len((tmp_path / "run" / "returns.csv").read_text().splitlines()) == 1 + 16 * 17
    assert json.loads((tmp_path / "run" / "config.json").read_text())["continued_to"] == 340


def resume_sweep_and_evaluate_without_a_compiler():
    def compile_graph(graph, *_):
        raise AssertionError("nothing is to be compiled")

    # In a copy of this process, which it ends with.
    internals.compile_graph = compile_graph
    collect.MAX_UNROLL = UNROLLED
    assert main(["resume", "run", "--steps", "360"]) == 0
    assert main(["evaluate", "run", "--episodes", "3"]) == 0
    # As many lanes at once as there are seeds, and as each process of the run had.
    words = ["--over", "gamma=0.9,0.99", "--seeds", "8", "--processes", "1", "--steps", "40"]
    assert main(["sweep", "ppo", "CartPole-v1", *words, "--out", "sweep", *TINY]) == 0
    with pytest.raises(AssertionError, match="nothing is to be compiled"):
        jit.jit(lambda x: 23 * x)(torch.ones(23))


@pytest.mark.skipif(os.name == "nt", reason="copies of processes are POSIX")
def test_resuming_sweeping_and_evaluating_compile_nothing_that_the_run_had_not(finished, tmp_path):
    shutil.copytree(finished[0] / "run", tmp_path / "run")
    process = Forked(resume_sweep_and_evaluate_without_a_compiler, tmp_path)
    said = process.communicate(timeout=240)
    assert process.returncode == 0, said


@pytest.mark.skipif(os.name == "nt", reason="locks are POSIX")
def test_two_processes_do_not_write_into_one_run(finished, capsys, monkeypatch):
    monkeypatch.chdir(finished[0])
    monkeypatch.setattr(locks, "_PATIENCE", 0.1)
    with only_writer(Path("run")):
        assert main(["resume", "run", "--steps", "640"]) == 2
        assert "Another process is writing to it" in capsys.readouterr().err
        words = ["--seeds", "16", "--steps", "320", "--out", "run", "--replace", *TINY]
        assert main(["train", "ppo", "CartPole-v1", *words]) == 2
        assert "Another process is writing to it" in capsys.readouterr().err


@pytest.mark.compiled
@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_ctrl_c_and_sigterm_leave_a_run_that_can_go_on(tmp_path, unpainted):
    words = ["--seeds", "16", "--steps", "100M", "--out", "run"]
    process = copy(tmp_path, "train", "ppo", "CartPole-v1", *words, *TINY)
    measured = tmp_path / "run" / "metrics.jsonl"

    def interrupted(process, number, status, size=0):
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and not (measured.exists() and measured.stat().st_size > size):
            assert process.poll() is None, process.said()
            time.sleep(0.02)
        # To the whole group, workers included, as a terminal does and schedulers do.
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == status
        assert "interrupted: what was measured until then is in run. Go on with: funcrl resume run" in err
        assert "stopped early" in out
        return err

    interrupted(process, signal.SIGINT, 130)
    err = interrupted(copy(tmp_path, "resume", "run"), signal.SIGTERM, 143, measured.stat().st_size)
    assert "going on from step" in err
    rows = measured.read_text().splitlines()
    assert json.loads(rows[-1])["iteration"] == len(rows)
    assert len((tmp_path / "run" / "returns.csv").read_text().splitlines()) == 1 + 16 * len(rows)
    assert (tmp_path / "run" / "curve.png").exists()
    assert (tmp_path / "run" / "checkpoint" / "states.safetensors").exists()
