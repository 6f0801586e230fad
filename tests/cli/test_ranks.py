"""Runs that ranks share out, each rank being a call of the command line with a launcher's variables."""

import filecmp
import json
import shutil

import pytest

from funcrl.cli import main, running
from funcrl.io import open_run
from funcrl.io.sharded import is_sharded
from tests.cli.test_cli import TINY

pytestmark = pytest.mark.usefixtures("uncompiled", "unpainted")

QUICK = [*TINY[:-1], "1", "--num-epochs", "1"]
WORDS = ["train", "ppo", "CartPole-v1", "--steps", "60", *QUICK]
SAME = ("returns.csv", "metrics.csv", "metrics.jsonl", "checkpoint/states.safetensors", "config.json")


def rank(monkeypatch, number, count, *words, restarts=0, out="shared", launcher="torchrun"):
    """Do what one rank does and return its exit status."""
    names = {
        "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT"),
        "submitit": ("SUBMITIT_LOCAL_GLOBALID", "SUBMITIT_LOCAL_NTASKS", "SUBMITIT_LOCAL_LOCALID", "UNUSED"),
        "srun": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE", "SLURM_RESTART_COUNT"),
    }[launcher]
    with monkeypatch.context() as patch:
        for name, value in zip(names, (number, count, count, restarts), strict=True):
            patch.setenv(name, str(value))
        return main([*WORDS, "--processes", "1", *words, "--out", out])


def same(tmp_path, one, other):
    """Compare the files of two runs; of the settings all but the words that were written."""
    for name in SAME:
        a, b = tmp_path / one / name, tmp_path / other / name
        if name == "config.json":
            a, b = ({**json.loads(x.read_text()), "command": None} for x in (a, b))
            assert a == b
        else:
            assert filecmp.cmp(a, b, shallow=False), name
    carries = [sorted((tmp_path / x / "checkpoint").glob("*.at-*.safetensors")) for x in (one, other)]
    assert [path.name for path in carries[0]] == [path.name for path in carries[1]]
    assert all(filecmp.cmp(a, b, shallow=False) for a, b in zip(*carries, strict=True))
    assert {path.name for path in (tmp_path / other).iterdir()} == {
        path.name for path in (tmp_path / one).iterdir()
    }


@pytest.mark.parametrize(
    ("count", "launcher", "words"),
    [
        (2, "torchrun", ["--seeds", "7"]),
        (3, "srun", ["--seeds", "7", "--env.half-length", ".5,.4,.3,.2,.1,.6,.7"]),
        (2, "submitit", ["--seeds", "7", "--lanes-per-group", "3"]),
    ],
)
def test_however_many_ranks_there_are_they_leave_the_files_of_one_process(
    count, launcher, words, tmp_path, monkeypatch, capsys
):
    assert main([*WORDS, "--processes", "1", *words, "--out", "alone"]) == 0
    for number in reversed(range(count)):
        assert rank(monkeypatch, number, count, *words, launcher=launcher) == 0
        assert is_sharded(tmp_path / "shared") == (number > 0)
        assert "are other ranks'" in capsys.readouterr().err or number == 0
    same(tmp_path, "alone", "shared")


def test_a_run_that_ranks_have_shared_out_goes_on_as_that_of_one_process(tmp_path, monkeypatch):
    words = ["--seeds", "4"]
    assert main([*WORDS, "--processes", "1", *words, "--out", "alone"]) == 0
    for number in range(2):
        rank(monkeypatch, number, 2, *words)
    for name in ("alone", "shared"):
        assert main(["resume", name, "--steps", "100"]) == 0
    same(tmp_path, "alone", "shared")
    # And from such a run another one can, by ranks too.
    words = ["--start", "shared", *words]
    assert main([*WORDS, "--processes", "1", *words, "--out", "further"]) == 0
    for number in range(2):
        assert rank(monkeypatch, number, 2, *words, out="further by ranks") == 0
    same(tmp_path, "further", "further by ranks")
    assert filecmp.cmp(
        "further/checkpoint/start.safetensors", "further by ranks/checkpoint/start.safetensors"
    )


class Killed(BaseException):
    """Stands for a signal that nothing can catch."""


def die_after(patch, iterations):
    """Let a rank die after an iteration; it saves after each."""
    recorded = running.Recorder.__call__

    def record(self, progress):
        if progress.iteration > iterations:
            raise Killed
        recorded(self, progress)

    patch.setattr(running.Recorder, "__call__", record)
    patch.setattr(running.Recorder, "finish", lambda *_: None)


@pytest.mark.parametrize("onwards", ["fewer ranks", "resume"])
def test_a_rank_that_dies_goes_on_from_its_checkpoint(onwards, tmp_path, monkeypatch, capsys):
    words = ["--seeds", "6"]
    assert main([*WORDS, "--processes", "1", *words, "--out", "alone"]) == 0
    words += ["--checkpoint-every", "1e-9"]
    assert rank(monkeypatch, 0, 3, *words) == 0
    with monkeypatch.context() as patch:
        die_after(patch, 1)
        with pytest.raises(Killed):
            rank(monkeypatch, 1, 3, *words)
    done = (tmp_path / "shared/shards/000000-000002/times.csv").read_bytes()
    capsys.readouterr()
    if onwards == "resume":
        assert main(["resume", "shared"]) == 0
    else:
        for number in range(2):
            assert rank(monkeypatch, number, 2, *words, restarts=1) == 0
            if number == 0:
                assert (tmp_path / "shared/shards/000000-000002/times.csv").read_bytes() == done
    assert "going on from step 20 of 60" in capsys.readouterr().err
    same(tmp_path, "alone", "shared")
    # One that comes late, or again, finds nothing to do.
    for restarts in (0, 1):
        assert rank(monkeypatch, 0, 3, *words, restarts=restarts) == 0
        assert "shared has the whole of it already" in capsys.readouterr().err
    same(tmp_path, "alone", "shared")


def test_ranks_without_seeds_have_nothing_to_do(tmp_path, monkeypatch, capsys):
    assert rank(monkeypatch, 2, 3, "--seeds", "4") == 0
    assert "rank 2 has nothing to do: 4 seeds are too few" in capsys.readouterr().err
    assert not (tmp_path / "shared").exists()


def test_what_ranks_cannot_share_is_refused(tmp_path, monkeypatch, capsys):
    words = ["--seeds", "4"]

    def refused(text, *more, number=0, count=2, **options):
        assert rank(monkeypatch, number, count, *more, **options) == 2
        assert text in capsys.readouterr().err

    refused("train: --replace must be left out where ranks share out a run", *words, "--replace")
    refused("train: RANK must be below WORLD_SIZE, which is 2, got 5", *words, number=5)
    refused("train: WORLD_SIZE must be a whole number, got 'two'", *words, count="two")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([*WORDS, *words]) == 2
    assert "--out must be written where ranks share out a run" in capsys.readouterr().err
    monkeypatch.delenv("RANK")

    assert rank(monkeypatch, 0, 2, *words) == 0
    capsys.readouterr()
    refused("train: seeds must have the seeds of what ranks share out", "--seeds", "6")
    refused("train: config must have the config of what", *words, "--gamma", "0.5")
    assert main([*WORDS, *words, "--out", "shared"]) == 2
    assert "hold no run that ranks share out" in capsys.readouterr().err
    assert main(["resume", "shared", "--steps", "200"]) == 2
    assert "--steps must be left out for a run of ranks" in capsys.readouterr().err
    assert main(["evaluate", "shared"]) == 2
    assert "funcrl resume shared" in capsys.readouterr().err
    part = tmp_path / "shared/shards/000000-000002"
    with pytest.raises(ValueError, match="hold one run, got 'a part of the one in"):
        open_run(part)

    (tmp_path / "shared/shards/shards.json").write_text("{")
    refused("shards.json must say how ranks share out a run", *words)
    shutil.rmtree(tmp_path / "shared")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/thesis.tex").write_text("")
    refused("--out must be an empty folder", *words)
    for command in (["resume", "run"], ["search", "pbt"], ["train", "classifier", "digits"]):
        with monkeypatch.context() as patch:
            patch.setenv("RANK", "0")
            patch.setenv("WORLD_SIZE", "2")
            assert main(command) == 2
        assert "must be done by one process, got '2 ranks'" in capsys.readouterr().err


def test_ranks_share_out_a_sweep(tmp_path, monkeypatch, capsys):
    over = ["--over", "gamma=0.9,0.99", "--over", "hidden=(4,),(3,)", "--seeds", "3", "--steps", "60"]
    words = [
        "sweep",
        "ppo",
        "CartPole-v1",
        *QUICK[:4],
        *QUICK[6:],
        "--processes",
        "1",
        *over,
    ]
    assert main([*words, "--out", "alone"]) == 0

    def sweep(number, *more):
        with monkeypatch.context() as patch:
            patch.setenv("RANK", str(number))
            patch.setenv("WORLD_SIZE", "2")
            return main([*words, *more, "--out", "shared"])

    assert sweep(1) == 0
    assert not (tmp_path / "shared/sweep.csv").exists()
    assert sweep(0, "--gamma", "0.5") == 2
    assert "train: config must have the config of what ranks share out" in capsys.readouterr().err
    assert sweep(0) == 0
    assert filecmp.cmp("alone/sweep.csv", "shared/sweep.csv", shallow=False)
    one, other = (
        {str(p.relative_to(x)) for p in x.rglob("*") if p.name != ".lock"}
        for x in (tmp_path / "alone", tmp_path / "shared")
    )
    assert one == other
    for name in ("returns.csv", "metrics.csv", "metrics.jsonl", "checkpoint/states.safetensors"):
        for number in (1, 2):
            part = f"programs/{number}/{name}"
            assert filecmp.cmp(f"alone/{part}", f"shared/{part}", shallow=False)
