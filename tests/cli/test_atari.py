"""Games of Atari through the bridge, as agents see them in the literature."""

import sys

import pytest

from funcrl import envs
from funcrl.cli import main
from funcrl.io import open_run

pytest.importorskip("ale_py")
pytest.importorskip("cv2")


def test_a_game_is_learnt_from_frames_that_are_remembered_once(uncompiled, unpainted, capsys):
    words = "train dqn ALE/Breakout-v5 --wrap atari --seeds 2 --steps 64 --window-length 4 --warmup-steps 48"
    small = "--batch-size 4 --buffer-size 48 --hidden 4 --channels 2 --share-frames --storage uint8 --out run"
    assert main([*words.split(), *small.split()]) == 0
    assert "not finite               none" in capsys.readouterr().out
    run = open_run("run")
    assert run.env.observation_space.shape == (4, 84, 84)
    assert run.metric("loss")[:, -1].isfinite().all()


def test_frames_are_skipped_once_and_grey(tmp_path):
    env = envs.from_words("train", "ale_py:ALE/Pong-v5", {"repeat_action_probability": 0.0}, ["atari"])
    made = env.make()
    obs, _ = made.reset(seed=0)
    assert obs.shape == (4, 84, 84)
    assert obs.dtype == "uint8"
    before = made.unwrapped.ale.getEpisodeFrameNumber()
    made.step(0)
    assert made.unwrapped.ale.getEpisodeFrameNumber() - before == 4
    made.close()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["CartPole-v1"], "env must be a game of the arcade learning environment under --wrap atari"),
        (["ALE/Brekout-v5"], "Did you mean 'ALE/Breakout-v5'"),
        (["ALE/Breakout-v5", "--env.frameskip", "4"], "frameskip must be 1, for --wrap atari skips frames"),
    ],
)
def test_what_is_no_game_is_refused(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "dqn", *words, "--wrap", "atari"]) == 2
    assert message in capsys.readouterr().err


def test_a_missing_package_is_named_with_what_brings_it(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ale_py", None)
    assert main(["train", "dqn", "ALE/Breakout-v5", "--wrap", "atari"]) == 2
    assert "ale_py is missing. Write: pip install 'funcrl[atari]'" in capsys.readouterr().err
