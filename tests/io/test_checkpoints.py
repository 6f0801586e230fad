"""Runs that are cut off go on as if nothing had been, and what is damaged is refused."""

import dataclasses
import json
import os
import random
import shutil
import signal
import time
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from funcrl import envs
from funcrl.algos import dqn, ppo, q_learning
from funcrl.cli import main
from funcrl.core import tree
from funcrl.io import Checkpoints, Recorder, check_folder, latest, open_run
from funcrl.io.folders import TABLES
from funcrl.io.settings import settings_from
from funcrl.train import Progress, Report, cores, execute, make_plan
from funcrl.train.programs import make_run
from funcrl.train.resolve import num_envs
from funcrl.train.saving import Part
from tests.algos.table import CASES, Planner
from tests.cli.conftest import leave_unpainted, run_eagerly
from tests.forked import Forked

DETERMINISTIC = tuple(name for name in TABLES if name != "times.csv")
PPO = ppo.Config(num_envs=2, window_length=4, num_epochs=1, num_minibatches=2, hidden=(8,))
DQN = dqn.Config(hidden=(8,), batch_size=4, warmup_steps=16, buffer_size=60)
LOOPS = {
    "ppo": ("ppo", "CartPole-v1", PPO, 8),
    "dqn": ("dqn", "CartPole-v1", DQN, 10),
    "q_learning": ("q_learning", "CliffWalking-v1", q_learning.Config(), 6),
}
"""algorithm, environment, settings, and steps of an iteration"""


def planned(name="ppo", seeds=range(3), **options):
    algorithm, env, config, size = LOOPS[name]
    given = {"config": config, "num_steps": 9 * size, "backend": "eager", "seeds": seeds} | options
    plan = make_plan(algorithm, env, **given)
    return dataclasses.replace(plan, num_iterations=9, steps_per_iteration=size)


def written(folder, plan, *, every=1e9, ask_at=(), stop_at=None, go_on=False, keep=2, with_replay=True):
    """Train a plan into a folder; ask for checkpoints after some iterations, and stop after another."""
    settings = {"command": "", "algorithm": plan.algorithm.__name__.rpartition(".")[2], "environment": "x"}
    folder.mkdir(exist_ok=True)
    found = latest(folder) if go_on else None
    recorder = Recorder(folder, settings, None if found is None else found.extents)
    saver = Checkpoints(recorder, plan, every=every, keep=keep, with_replay=with_replay, before=found)

    def callback(now):
        recorder(now)
        if now.iteration in ask_at:
            saver.ask()
        return stop_at is not None and now.iteration >= stop_at and saver.settled

    result = execute(plan, callback, saver, None if found is None else found.start)
    recorder.finish(result, {"algorithm": "x"})
    return result


def same(a, b):
    pairs = zip(tree.leaves(a), tree.leaves(b), strict=True)
    return all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in pairs)


def parts(result):
    return result.states, result.env_states, result.returns, result.episodes, result.metrics, result.steps


def equal_files(one, other):
    names = [*DETERMINISTIC, "checkpoint/states.safetensors"]
    last = sorted(path.name for path in (one / "checkpoint").glob("*.at-*"))[-1]
    return [
        name
        for name in (*names, f"checkpoint/{last}")
        if (one / name).read_bytes() != (other / name).read_bytes()
    ]


@pytest.mark.parametrize(
    "case", [case for case in CASES if not isinstance(case, Planner)], ids=lambda case: case.id
)
def test_n_iterations_a_checkpoint_and_n_more_are_2n(case, tmp_path):
    size = (
        case.config.num_envs * getattr(case.config, "window_length", 1)
        if hasattr(case.config, "num_envs")
        else 100
    )
    config = case.config
    if hasattr(config, "warmup_steps"):
        config = tree.replace(config, warmup_steps=20, buffer_size=100)
    if hasattr(config, "num_epochs"):
        config = tree.replace(config, num_epochs=1)
    plan = make_plan(
        case.algorithm, case.env, config=config, seeds=[4, 2], num_steps=max(4 * size, 60), backend="eager"
    )
    plan = dataclasses.replace(plan, num_iterations=2)
    # A hundred steps an iteration, eagerly, would say no more. Off policy, all learn in the second hundred.
    short = {"online": 4 * num_envs(config), "off_policy": 2 * size, "on_policy": size}
    plan = dataclasses.replace(plan, steps_per_iteration=short[case.algorithm.LOOP])
    whole = written(tmp_path / "whole", plan, ask_at=[1])
    # As if it had been killed while it wrote its last rows.
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for name in DETERMINISTIC:
        path = tmp_path / "cut" / name
        path.write_bytes(path.read_bytes()[:-5])
    inside = tmp_path / "cut" / "checkpoint"
    for path in (inside / "states.safetensors", max(inside.glob("0*.json")), max(inside.glob("*.at-*"))):
        path.unlink()
    assert latest(tmp_path / "cut").head["iteration"] == 1
    assert same(parts(written(tmp_path / "cut", plan, go_on=True)), parts(whole))
    assert equal_files(tmp_path / "whole", tmp_path / "cut") == []


@pytest.fixture(scope="module")
def in_groups(tmp_path_factory):
    """A plan of two groups of lanes, and the result and the folder of a run of it that was never cut off."""
    folder = tmp_path_factory.mktemp("in groups") / "whole"
    plan = planned(seeds=range(5), lanes_per_group=3)
    return plan, written(folder, plan), folder


@pytest.mark.parametrize("processes", [1, 2])
def test_groups_of_lanes_go_on_in_whichever_processes(processes, in_groups, tmp_path):
    plan, whole, folder = in_groups
    several = dataclasses.replace(plan, processes=2)
    # In two processes a checkpoint comes three iterations after it was asked for.
    result = written(tmp_path / "cut", several, ask_at=[2], stop_at=7)
    assert result.returns.shape[1] == 7
    assert latest(tmp_path / "cut").head["lanes"] == [0, 3]
    assert latest(tmp_path / "cut").head["iteration"] == 5
    result = written(tmp_path / "cut", dataclasses.replace(plan, processes=processes), go_on=True)
    assert same(parts(result), parts(whole))
    assert result.timed_steps == 8 * (3 * 4 + 2 * 9)
    for name in DETERMINISTIC:
        assert (folder / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


def test_a_finished_run_goes_on_to_more_steps(in_groups, tmp_path):
    longer, whole, _ = in_groups
    plan = dataclasses.replace(longer, num_iterations=5)
    written(tmp_path / "cut", plan)
    written(tmp_path / "cut", longer, go_on=True, ask_at=[6], stop_at=8)
    assert latest(tmp_path / "cut").head["lanes"] == [0, 3]
    again = written(tmp_path / "cut", longer, go_on=True)
    assert same(parts(again), parts(whole))


def test_a_checkpoint_without_replay_goes_on_with_empty_buffers(tmp_path):
    plan = planned("dqn")
    whole = written(tmp_path / "whole", plan, ask_at=[5])
    written(tmp_path / "cut", plan, ask_at=[5], stop_at=6, with_replay=False)
    name = "checkpoint/000000-000003.at-0000000005.safetensors"
    assert (tmp_path / "cut" / name).stat().st_size < (tmp_path / "whole" / name).stat().st_size / 2
    again = written(tmp_path / "cut", plan, go_on=True)
    assert torch.equal(again.returns[:, :5].nan_to_num(), whole.returns[:, :5].nan_to_num())
    assert not same(again.states, whole.states)


def test_only_the_last_checkpoints_stay(tmp_path):
    plan = planned()
    written(tmp_path / "run", plan, ask_at=[2, 4, 6, 8], keep=3)
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoint").iterdir())
    parts = [f"000000-000003.at-{i:010d}.safetensors" for i in (6, 8, 9)]
    assert names == sorted([f"{i:08d}.json" for i in (3, 4, 5)] + parts + ["states.safetensors"])


@pytest.mark.skipif(not cores.can_fork(), reason="needs processes that can be forked")
@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_at_any_moment_a_run_goes_on_to_the_same_end(name, processes, tmp_path):
    plan = dataclasses.replace(planned(name, seeds=range(4)), num_iterations=5)
    began = time.perf_counter()
    whole = written(tmp_path / "whole", plan, every=0.0)
    took = time.perf_counter() - began
    draw, folder, kills = random.Random(processes), tmp_path / "cut", 0
    plan = dataclasses.replace(plan, processes=processes)
    while kills < 3:
        if killed(lambda: written_or_resumed(folder, plan), after=draw.random() * took):
            kills += 1
        else:  # it came to its end: once more from the beginning
            shutil.rmtree(folder)
    result = written_or_resumed(folder, plan)
    assert same(parts(result), parts(whole))
    assert equal_files(tmp_path / "whole", folder) == [] if processes == 1 else True
    for table in DETERMINISTIC:
        assert (folder / table).read_bytes() == (tmp_path / "whole" / table).read_bytes()


def written_or_resumed(folder, plan):
    try:
        latest(folder)
    except ValueError:
        return written(folder, plan, every=0.0)
    return written(folder, plan, every=0.0, go_on=True)


def killed(work, after):
    """Do work in a process that is killed after some seconds; return whether it was at work then."""
    process, until = Forked(work, Path.cwd()), time.perf_counter() + after
    while process.poll() is None and time.perf_counter() < until:
        time.sleep(0.001)
    if process.returncode is None:
        os.kill(process.pid, signal.SIGKILL)
    said = process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGKILL), said
    return process.returncode != 0


# What is damaged


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run with two checkpoints."""
    folder = tmp_path_factory.mktemp("saved") / "run"
    written(folder, planned(), ask_at=[3, 6], stop_at=7)
    return folder


def change(draw, data, path):
    kind = draw(st.sampled_from(["flip", "cut", "grow", "empty", "pickle"]))
    if kind == "flip":
        for _ in range(draw(st.integers(1, 3))):
            at = draw(st.integers(0, len(data) - 1))
            data = data[:at] + bytes([data[at] ^ draw(st.integers(1, 255))]) + data[at + 1 :]
    elif kind == "cut":
        data = data[: draw(st.integers(0, len(data) - 1))]
    elif kind == "grow":
        if path.suffix == ".csv" or path.suffix == ".jsonl":
            return data[: draw(st.integers(0, 40))]
        data = data + draw(st.binary(min_size=1, max_size=20))
    elif kind == "empty":
        data = b""
    else:
        data = b"cos\nsystem\n(S'touch was_run'\ntR." + data
    return data


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_what_is_damaged_is_refused_by_name_and_the_one_before_is_used(saved, tmp_path, data):
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(saved, folder)
    newest = sorted((folder / "checkpoint").glob("0*.json"))[-1]
    own = [newest, folder / "checkpoint" / json.loads(newest.read_text())["parts"][0]["file"]]
    path = data.draw(st.sampled_from(own))
    before = path.read_bytes()
    path.write_bytes(change(data.draw, before, path))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = latest(folder)
    if found.head["iteration"] == 6:  # nothing of meaning was changed, as white space between words
        after = path.read_bytes()
        assert after == before or (path == newest and json.loads(after) == json.loads(before))
        return
    assert found.head["iteration"] == 3
    (warning,) = caught
    assert str(warning.message).startswith(f"resume: {path} must ")
    assert str(warning.message).endswith("The one before is used.")


def test_a_table_that_was_changed_is_named(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "run")
    path = tmp_path / "run" / "returns.csv"
    path.write_bytes(path.read_bytes().replace(b"0,8,", b"0,9,"))
    with (
        pytest.warns(RuntimeWarning, match="returns.csv must begin as it was written"),
        pytest.raises(ValueError, match=r"resume: .*run must hold a checkpoint that is whole"),
    ):
        latest(tmp_path / "run")


def test_other_versions_and_other_settings_are_refused(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoint").glob("0*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 3}))
    with (
        pytest.warns(RuntimeWarning, match="must be of schema 2, got 3: another version wrote it"),
        pytest.raises(ValueError, match="must hold a checkpoint"),
    ):
        latest(tmp_path / "run")
    found = latest(saved)
    wider = planned(config=tree.replace(PPO, hidden=(16,)))
    with pytest.raises(ValueError, match=r"load: .*actor.* must be \(3, 16.* as in `like`, got \(3, 8"):
        execute(wider, None, None, found.start)
    with pytest.raises(ValueError, match=r"resume: metrics.csv must hold|resume: .* must hold the lanes"):
        execute(planned(seeds=range(2)), None, None, found.start)


def test_without_a_checkpoint_there_is_a_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"must hold a checkpoint that is whole. There is none."):
        latest(tmp_path)


# A disk that is full


class Full:
    """Lets a number of writes through, then says that the disk is full, until it is told otherwise."""

    def __init__(self, monkeypatch, name, module, after):
        self.left, self.calls = after, 0
        original = getattr(module, name)

        def call(*arguments, **options):
            self.calls += 1
            if self.left <= 0:
                raise OSError(28, "No space left on device")
            self.left -= 1
            return original(*arguments, **options)

        monkeypatch.setattr(module, name, call)


def test_a_full_disk_stops_no_training_and_harms_no_file(tmp_path, monkeypatch):
    plan = planned()
    whole = written(tmp_path / "whole", plan)
    from funcrl.io import checkpoints

    full = Full(monkeypatch, "write_atomically", checkpoints, after=4)
    with pytest.warns(
        RuntimeWarning, match="must take a checkpoint, but: No space left on device. Training goes on"
    ):
        result = written(tmp_path / "cut", plan, ask_at=[2, 4, 6])
    assert full.calls > 4
    assert same(parts(result), parts(whole))
    assert latest(tmp_path / "cut").head["iteration"] == 4
    monkeypatch.undo()
    assert same(parts(written(tmp_path / "cut", plan, go_on=True)), parts(whole))
    assert equal_files(tmp_path / "whole", tmp_path / "cut") == []


def test_rows_that_a_full_disk_did_not_take_are_written_later(tmp_path, monkeypatch):
    plan = planned()
    written(tmp_path / "whole", plan)
    append, failing = Recorder._append, [True]

    def half(self, name, data):
        if failing[0] and name == "metrics.csv":
            append(self, name, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        append(self, name, data)

    monkeypatch.setattr(Recorder, "_append", half)
    folder = tmp_path / "cut"
    folder.mkdir()
    recorder = Recorder(folder, {"command": "", "algorithm": "ppo", "environment": "x"})
    seen = []

    def callback(now):
        recorder(now)
        recorder.flush()
        seen.append({name: (folder / name).read_bytes() for name in TABLES})
        failing[0] = now.iteration < 6

    with pytest.warns(RuntimeWarning, match="must take what is measured, but No space left on device"):
        result = execute(plan, callback)
    assert set(seen[3].values()) == {b""}
    recorder.finish(result, {"algorithm": "x"})
    for name in DETERMINISTIC:
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def result_report(result):
    """The last iteration once more."""
    return Report(
        result.returns[:, -1], result.episodes[:, -1], {k: v[:, -1] for k, v in result.metrics.items()}
    )


def test_rows_that_never_found_room_are_an_error_at_the_end(tmp_path, monkeypatch):
    recorder = Recorder(tmp_path, {"command": "", "algorithm": "ppo"})
    result = execute(planned(), recorder)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Recorder, "_append", fail)
    recorder._waiting = [Progress((0, 1, 2), (0, 1, 2), 10, 10, 80, result_report(result))]
    recorder._times = [1.0]
    with (
        pytest.warns(RuntimeWarning, match="must take what is measured"),
        pytest.raises(OSError, match="the last 1 iterations could not be written into"),
    ):
        recorder.finish(result, {})


# Opening a run


def test_a_folder_is_opened_without_knowing_how_it_was_made(tmp_path, monkeypatch):
    run_eagerly(monkeypatch, tmp_path)
    leave_unpainted(monkeypatch)
    words = "--seeds 3,5, --steps 0.16k --hidden 8 --num-envs 2 --window-length 8 --num-epochs 1 --num-minibatches 2"
    assert main(["train", "ppo", "CartPole-v1", *words.split(), "--out", "run", "--processes", "1"]) == 0
    run = open_run(tmp_path / "run")
    assert run.algorithm is ppo
    assert run.config == ppo.Config(hidden=(8,), num_envs=2, window_length=8, num_epochs=1, num_minibatches=2)
    assert isinstance(run.env, envs.CartPole)
    assert run.seeds == (3, 5)
    assert run.returns.shape == (2, 10)
    assert run.steps.tolist() == list(range(16, 161, 16))
    assert run.metric("entropy").isfinite().all()
    assert tree.leaves(run.agents)[0].shape[0] == 2
    assert ppo.greedy(tree.index(run.agents, 1), torch.zeros(4)).shape == ()
    assert set(run.metrics) >= {"seed", "step", "return", "entropy"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "must be the folder of a run"),
        ("{", "must be the settings of a run of funcrl train, got 'no JSON object'"),
        ("[" * 100_000, "must be the settings of a run"),
        ('{"algorithm": "ppo"}', "got 'no good value of environment, config"),
    ],
)
def test_a_folder_that_holds_no_run_is_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        open_run(tmp_path)


@pytest.mark.parametrize("value", [[[0.9]], [None, 0.9], None, "high", {}])
def test_a_number_of_the_settings_that_is_none_is_named(value):
    with pytest.raises(ValueError, match=r"open_run: config.gamma must be a number, or one a lane, got "):
        settings_from("open_run", ppo.Config, {"gamma": value})


def test_a_part_that_is_early_stays_for_the_checkpoint_that_it_belongs_to(tmp_path):
    plan = planned(seeds=range(2))
    recorder = Recorder(tmp_path, {"command": "", "algorithm": "ppo"})
    saver = Checkpoints(recorder, plan)
    carry = make_run(plan, range(2)).carry
    recorder(Progress((0, 1), (0, 1), 1, 12, 8, Report(torch.zeros(2), torch.zeros(2), {})))
    saver.mark(range(2), 3)
    receipt = saver.write(Part(range(2), 3, carry))
    early = saver.write(Part(range(2), 12, carry))  # a worker is at the end already
    old = saver.write(Part(range(2), 1, carry))
    saver.complete([receipt])
    assert (tmp_path / "checkpoint" / early["file"]).exists()
    assert not (tmp_path / "checkpoint" / old["file"]).exists()
    saver.mark(range(2), 12)
    saver.complete([early])
    assert latest(tmp_path).head["iteration"] == 12


def test_what_a_killed_run_was_about_to_put_in_place_is_cleared(tmp_path):
    folder = tmp_path / "run"
    written(folder, planned(), ask_at=[3], stop_at=4)
    (folder / "config.json").write_text('{"command": "", "algorithm": "ppo"}')
    left = [
        folder / ".config.json.abcd1234",
        folder / "checkpoint" / ".000000-000003.at-0000000004.safetensors.a_b1c2d3",
    ]
    for path in left:
        path.write_bytes(b"half")
    check_folder(folder, replace=True)
    written(folder, planned(), go_on=True)
    assert not any(path.exists() for path in left)


def test_what_workers_have_written_before_the_first_report_stays(tmp_path):
    """A run of a single iteration is at its end when it is first heard of."""
    inside = tmp_path / "checkpoint"
    inside.mkdir()
    before, during, new = (
        inside / name
        for name in (
            "000000-000002.at-0000000009.safetensors",
            ".000002-000004.at-0000000001.safetensors.x",
            "000000-000002.at-0000000001.safetensors",
        )
    )
    before.write_bytes(b"of an earlier run")
    os.utime(before, (0, 0))
    recorder = Recorder(tmp_path, {"seeds": [0]})
    for path in (during, new):
        path.write_bytes(b"of a worker")
        os.utime(path, (time.time() + 1,) * 2)
    recorder._begin()
    assert {path.name for path in inside.iterdir()} == {during.name, new.name}
