"""Sharing lanes out to processes: the same bits as in one, and what happens where one of them does not live."""

import contextlib
import itertools
import json
import os
import re
import signal

import gymnasium
import pytest
import torch

from funcrl import envs
from funcrl.algos import dqn, ppo, q_learning
from funcrl.cli.progress import summary
from funcrl.core import background, jit, tree
from funcrl.io import Recorder
from funcrl.train import (
    Report,
    WorkerError,
    cores,
    forks,
    history,
    make_plan,
    online,
    plan,
    shards,
    train,
    workers,
)
from tests.probes import Counter

pytestmark = pytest.mark.skipif(not cores.can_fork(), reason="needs processes that can be forked")

PPO = ppo.Config(num_envs=2, window_length=4, num_epochs=1, num_minibatches=1, hidden=(8,))
DQN = dqn.Config(hidden=(8,), batch_size=4, warmup_steps=6, buffer_size=200)
CASES = {
    "ppo": (ppo, "CartPole-v1", PPO, 24),
    "q_learning": (q_learning, "CliffWalking-v1", q_learning.Config(), 20),
    "dqn": (dqn, "CartPole-v1", DQN, 20),
}


def run(name="ppo", seeds=range(5), **kwargs):
    algorithm, env, config, num_steps = CASES[name]
    kwargs = {"env": env, "config": config, "num_steps": num_steps, "backend": "eager"} | kwargs
    return train(algorithm, kwargs.pop("env"), seeds=seeds, **kwargs)


def same(a, b):
    pairs = zip(tree.leaves(a), tree.leaves(b), strict=True)
    return all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in pairs)


def parts(result):
    return result.states, result.env_states, result.returns, result.episodes, result.metrics, result.steps


@pytest.mark.parametrize("name", CASES)
def test_two_and_three_processes_give_the_bits_of_one(name, monkeypatch):
    monkeypatch.setattr(online, "STEPS_PER_ITERATION", 10)
    one = run(name)
    for processes in (2, 3):
        several = run(name, processes=processes)
        assert several.seeds == one.seeds
        assert same(parts(several), parts(one))
        assert several.lost_seeds == ()
        assert several.timed_steps == one.timed_steps


def test_groups_are_shared_out_one_after_the_other():
    config = tree.replace(PPO, learning_rate=[1e-4, 1e-3, 1e-2, 1e-3, 1e-4])
    env = envs.make("CartPole-v1", half_length=[0.25, 0.5, 1.0, 2.0, 0.5])
    one = run(config=config, env=env)
    several = run(config=config, env=env, lanes_per_group=3, processes=2)
    assert several.seeds == one.seeds
    assert same(parts(several), parts(one))


def test_the_files_are_those_of_one_process(tmp_path):
    for processes in (1, 2):
        recorder = Recorder(tmp_path / str(processes), {"command": "", "algorithm": "ppo"})
        recorder.folder.mkdir()
        seen = []

        def callback(progress, recorder=recorder, seen=seen):
            recorder(progress)
            seen.append((progress.seeds, progress.iteration, progress.num_iterations, progress.step))

        recorder.finish(run(processes=processes, callback=callback), {"algorithm": "ppo", "environment": "é"})
        assert seen == [((0, 1, 2, 3, 4), i, 3, 8 * i) for i in range(1, 4)]
    for name in ("returns.csv", "checkpoint/states.safetensors"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    rows = [(tmp_path / n / "metrics.jsonl").read_text().splitlines() for n in "12"]
    for one, several in zip(*(map(json.loads, lines) for lines in rows), strict=True):
        assert one | {"seconds": 0} == several | {"seconds": 0}


@pytest.mark.parametrize("last", [1, 6, 7])
def test_a_callback_stops_all_after_the_same_iteration(last):
    stop = lambda progress: progress.iteration == last
    one = run(num_steps=56, callback=stop)
    several = run(num_steps=56, callback=stop, processes=2)
    assert several.returns.shape == (5, last)
    assert same(parts(several), parts(one))


def test_a_callback_cannot_change_the_result():
    callback = lambda progress: progress.report.returns.fill_(-7.0) is None
    assert not (run(callback=callback, processes=2).returns == -7.0).any()


@pytest.fixture
def children(monkeypatch):
    """The children that training starts, in the order of their lanes."""
    started = []

    def fork(*args):
        started.append(forks.fork(*args))
        return started[-1]

    monkeypatch.setattr(workers, "fork", fork)
    return started


def test_a_worker_that_is_killed_loses_its_seeds_and_no_others(children, tmp_path):
    seen, recorder = [], Recorder(tmp_path, {"command": "", "algorithm": "ppo"})

    def callback(progress):
        seen.append(progress)
        recorder(progress)
        if progress.iteration == 2:
            os.kill(children[1].pid, signal.SIGKILL)

    given = {"config": tree.replace(PPO, num_epochs=4), "num_steps": 160}  # long enough to be killed in
    one = run(**given)
    with pytest.warns(RuntimeWarning, match=r"that of seeds 2, 3 was killed by SIGKILL"):
        several = run(**given, processes=3, callback=callback)
    recorder.finish(several, {})
    assert several.lost_seeds == (2, 3)
    assert several.seeds == (0, 1, 4)
    assert same(parts(several)[:-1], tree.index(parts(one)[:-1], torch.tensor([0, 1, 4])))
    assert [progress.iteration for progress in seen] == list(range(1, 21))
    assert seen[1].seeds == (0, 1, 2, 3, 4)
    assert seen[-1].seeds == (0, 1, 4)
    rows = (tmp_path / "returns.csv").read_text().splitlines()[1:]
    numbers = [sum(row.startswith(f"{seed},") for row in rows) for seed in range(5)]
    assert numbers[0] == numbers[1] == numbers[4] == 20
    assert 2 <= numbers[2] == numbers[3] < 20


def test_without_any_worker_there_is_no_result(children):
    def callback(progress):
        for child in children:
            with contextlib.suppress(ProcessLookupError):  # one that ended at an earlier call
                os.kill(child.pid, signal.SIGKILL)

    with (
        pytest.warns(RuntimeWarning, match="was killed by SIGKILL"),
        pytest.raises(WorkerError, match="train: at least one worker process must stay alive"),
    ):
        run(num_steps=1600, processes=2, callback=callback)


PARENT = os.getpid()


class OwnError(Exception):
    """One that no library knows."""


class Raising(Counter):
    def transition(self, state, action, key):
        if os.getpid() != PARENT:
            raise OwnError("the bridge is out")
        return state + 1


def test_an_exception_of_a_worker_is_raised_here_as_it_was(children):
    with pytest.raises(OwnError, match=r"^the bridge is out\n") as caught:
        run(env=Raising(), processes=2)
    notes = "\n".join(caught.value.__notes__)
    assert "the worker process of seed" in notes
    assert "in transition" in notes
    assert "check_env" in notes
    assert all(child.status is not None for child in children)


def test_an_exception_of_the_callback_ends_the_workers(children):
    def callback(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(num_steps=16_000, processes=2, callback=callback)
    assert all(child.status == -signal.SIGKILL for child in children)


def test_nothing_is_left_open(children):
    before = len(os.listdir("/proc/self/fd"))
    run(processes=2)
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(children) == 2


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_environments_on_the_host_are_made_anew_in_each_process(vectorization):
    make = lambda: gymnasium.make("CartPole-v1")
    env = envs.from_gymnasium(make, vectorization=vectorization)
    one, two = run(env=env, seeds=range(3)), run(env=env, seeds=range(3), processes=2)
    assert make_plan("ppo", env, config=PPO, seeds=range(3)).processes == 1
    assert same(parts(two), parts(one))
    for result in (one, two):
        assert 0 < result.environment_seconds < result.run_seconds
        text = summary("ppo", make_plan("ppo", env, config=PPO, seeds=range(3)), result)
        assert re.search(r"of that \d+% waiting for the environments \(.* steps/s by themselves\)", text)
    on_device = run(seeds=range(3))
    assert on_device.environment_seconds == 0
    assert "waiting" not in summary(
        "ppo", make_plan("ppo", "CartPole-v1", config=PPO, seeds=range(3)), on_device
    )


def test_how_many_processes_there_are(monkeypatch):
    monkeypatch.setattr(background, "num_cores", lambda: 4)
    plan = lambda seeds=9, **kwargs: make_plan("ppo", "CartPole-v1", seeds=range(seeds), **kwargs)
    assert plan().processes == 4
    assert plan().lanes_per_process == 3
    assert plan(seeds=3).processes == 2
    assert plan(lanes_per_group=3).processes == 2
    assert plan(lanes_per_group=2).processes == 1
    assert plan(backend="eager").processes == 1
    assert plan(backend="eager", processes=2).processes == 2
    assert plan(processes=100).processes == 5
    assert all(plan(seeds=n, processes=n).lanes_per_process >= 2 for n in range(2, 9))
    assert plan(seeds=1, processes=3).processes == 1
    with pytest.raises(ValueError, match="train: processes must be at least 1, got 0"):
        plan(processes=0)
    monkeypatch.setattr(cores, "can_fork", lambda: False)
    assert plan().processes == 1
    with pytest.warns(UserWarning, match="train: processes must be 1 where a process cannot be forked"):
        assert plan(processes=2).processes == 1


def test_every_lane_is_in_one_shard():
    for num_lanes, processes in itertools.product(range(1, 18), range(1, 9)):
        size = shards.shard_size(num_lanes, processes)
        each = shards.share_out(range(3, 3 + num_lanes), processes, size)
        assert [lane for shard in each for lane in shard.lanes] == list(range(3, 3 + num_lanes))
        assert len(each) == min(processes, num_lanes)
        assert all(len(shard.members) == size for shard in each)
        lengths = [len(shard.lanes) for shard in each]
        assert max(lengths) - min(lengths) <= 1


def test_programs_of_several_lanes_or_of_small_agents_have_one_thread_in_one_process_too(monkeypatch):
    seen, before = [], torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for seeds, limit in ((range(3), 0), (range(2), 0), (range(2), plan.SMALL_AGENT)):
            monkeypatch.setattr(plan, "SMALL_AGENT", limit)
            run(seeds=seeds, num_steps=8, callback=lambda progress: seen.append(torch.get_num_threads()))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 2, 1]


@pytest.mark.compiled
def test_compiled_programs_are_inherited_and_give_the_bits_of_one_process(monkeypatch):
    # The programs are those of the compiled test in test_online, which are kept: twenty steps, a hundred lanes.
    monkeypatch.setattr(online, "STEPS_PER_ITERATION", 20)
    before = jit.stats().num_graphs
    # In groups of as many lanes as each process has: the same programs.
    given = {"seeds": range(200), "num_steps": 60, "backend": "inductor"}
    one = train("q_learning", "CliffWalking-v1", **given, processes=1, lanes_per_group=100)
    several = train("q_learning", "CliffWalking-v1", **given, processes=2)
    assert one.returns.shape == (200, 3)
    assert jit.stats().num_graphs - before == 4
    assert same(parts(several), parts(one))
    assert several.steps_per_second > 0


def test_reports_that_were_kept_are_written_at_once():
    reports = [Report(torch.full((3,), float(i)), torch.full((3,), -float(i)), {}) for i in range(5)]
    kept = history.History(history.figures(reports[0], 2, 5))
    for report in reports[:3]:  # as on a GPU
        kept._waiting.append(report)
        kept.count += 1
    kept.flush()
    kept.append(reports[3])
    assert kept.all().returns.tolist() == [[0.0, 1.0, 2.0, 3.0]] * 2
    kept.append(reports[4])
    assert kept.all().episodes.tolist() == [[0.0, -1.0, -2.0, -3.0, -4.0]] * 2


def test_room_for_a_million_iterations_takes_no_memory_until_it_is_written_to():
    report = Report(torch.zeros(3), torch.zeros(3), {})
    for make in (history.private, history.shared):
        room = history.figures(report, 100, 1_000_000, make)  # 800 MB
        history.History(room).append(tree.map(lambda x: torch.ones(100), report))
        assert room.returns[99, 0] == 1.0
