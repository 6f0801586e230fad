"""`funcrl evaluate --video`."""

import csv
import sys

import gymnasium
import numpy as np
import pytest
from PIL import Image

from funcrl.cli import evaluate, main
from tests.cli.conftest import run_eagerly

pytestmark = pytest.mark.usefixtures("uncompiled", "unpainted")
TINY = ["--num-envs", "2", "--window-length", "8", "--num-epochs", "1", "--num-minibatches", "1"]


def trained(*words):
    given = ["--seeds", "4,7", "--steps", "32", *TINY, "--processes", "1", "--out", "run"]
    assert main(["train", "ppo", *words, *given]) == 0


@pytest.fixture(scope="module")
def poles(tmp_path_factory):
    """Return a folder with a run in it."""
    folder = tmp_path_factory.mktemp("poles")
    with pytest.MonkeyPatch.context() as patch:
        run_eagerly(patch, folder)
        wrappers = ["--wrap", "frame_stack=2", "--wrap", "normalize_observation"]
        trained("CartPole-v1", "--env.half-length", "0.25,2.0", *wrappers)
    return folder


def counted():
    with open("run/evaluation.csv") as file:
        return {(row["seed"], row["episode"]): float(row["return"]) for row in csv.DictReader(file)}


def milliseconds(path):
    with Image.open(path) as animation:
        total = 0
        for number in range(animation.n_frames):
            animation.seek(number)
            total += animation.info["duration"]
        return total


def test_the_picture_shows_an_episode_that_is_counted_by_default_of_the_best_seed(capsys, monkeypatch, poles):
    monkeypatch.chdir(poles)
    assert main(["evaluate", "run", "--episodes", "2", "--max-steps", "60", "--video", "a.gif"]) == 0
    best = max("47", key=lambda seed: counted()[seed, "0"] + counted()[seed, "1"])
    # It earns 1 a step; a step takes a fiftieth of a second, and the last picture stays for one.
    steps = round(counted()[best, "0"])
    assert milliseconds("a.gif") == 20 * steps + 1000
    out, err = capsys.readouterr()
    assert f"wrote a.gif: seed {best}, episode 0, {steps + 1} pictures, " in out
    assert f"drawing episode 0 of seed {best}, which earned {steps}" in err
    assert "does not repeat" not in err


class Lamp(gymnasium.Env):
    """Shines as brightly as its episode is old."""

    observation_space = gymnasium.spaces.Box(0, 255, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    pay = 1.0
    """a step where it is drawn; 1 elsewhere"""

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.length = 0, 2 + int(self.np_random.integers(5))
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.time += 1
        pay = self.pay if self.render_mode else 1.0
        return np.full(1, self.time, np.float32), pay, self.time == self.length, False, {}

    def render(self):
        return np.full((2, 2, 3), self.time, dtype=np.uint8)


def test_host_environments_are_drawn_through_their_wrappers(capsys, monkeypatch):
    monkeypatch.setitem(gymnasium.registry, "Lamp-v0", gymnasium.envs.registration.EnvSpec("Lamp-v0", Lamp))
    trained("Lamp-v0", "--wrap", "frame_stack=2")
    given = ["--episodes", "2", "--max-steps", "5", "--video", "a.gif", "--video-seed", "7"]
    assert main(["evaluate", "run", *given]) == 0
    steps = counted()["7", "0"]
    assert milliseconds("a.gif") == 100 * steps + 1000
    assert "does not repeat" not in capsys.readouterr().err
    monkeypatch.setattr(Lamp, "pay", 2.0)
    assert main(["evaluate", "run", *given]) == 0
    assert f"It earned {2 * steps:g} this time: the environment does not repeat" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--video", "a.png"], "--video must end in .gif or .mp4, got 'a.png'"),
        (["--video", "nowhere/a.gif"], "--video must lie in a folder that exists"),
        (
            ["--video", "a.gif", "--video-seed", "0"],
            "must be a seed whose agent the run has kept: 4, 7, got 0",
        ),
        (["--video-seed", "4"], "--video must be given with --video-seed"),
    ],
)
def test_bad_input_is_a_sentence_before_anything_is_compiled(capsys, monkeypatch, poles, words, message):
    monkeypatch.setattr(evaluate, "make_episodes", None)
    assert main(["evaluate", str(poles / "run"), *words]) == 2
    assert message in capsys.readouterr().err


def test_what_does_not_draw_or_is_missing_is_named(capsys, monkeypatch, poles):
    monkeypatch.setattr(evaluate, "make_episodes", None)
    monkeypatch.delattr("funcrl.envs.CartPole.render")
    assert main(["evaluate", str(poles / "run"), "--video", "a.gif"]) == 2
    assert "evaluate: the environment must draw itself, got 'CartPole'" in capsys.readouterr().err
    for module, name, extra in (("PIL", "a.gif", "render"), ("imageio_ffmpeg", "a.mp4", "video")):
        monkeypatch.setitem(sys.modules, module, None)
        assert main(["evaluate", str(poles / "run"), "--video", name]) == 2
        assert f"pip install 'funcrl[{extra}]'" in capsys.readouterr().err
