"""`funcrl search`: what it leaves, and that it goes on."""

import csv
import json

import pytest

from funcrl.cli import main
from funcrl.io import studies
from funcrl.train.population import Range
from tests.cli.test_cli import TINY
from tests.forked import Forked

pytestmark = pytest.mark.usefixtures("uncompiled")
TINY = [*TINY[:-1], "1", "--num-epochs", "1"]

PBT = ["search", "pbt", "ppo", "CartPole-v1", *TINY, "--range", "learning_rate=1e-5:1e-2:log", "--range"]
PBT += ["entropy-weight=0:0.1", "--population", "5", "--generations", "3", "--steps", "60"]
ASK = ["search", "optuna", "ppo", "CartPole-v1", *TINY, "--range", "learning_rate=1e-5:1e-2:log"]
ASK += ["--batch", "3", "--seeds", "2", "--steps", "40"]


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("quickly_painted")
def test_a_population_leaves_a_table_a_picture_and_settings_to_train_with(tmp_path, capsys):
    assert main([*PBT, "--out", "found"]) == 0
    out = capsys.readouterr().out
    assert "the best of 5 lanes" in out
    table = rows("found/generations.csv")
    assert [row["generation"] for row in table] == [str(n) for n in (1, 2, 3) for _ in range(5)]
    assert {row["parent"] for row in table if row["generation"] == "3"} == set("01234")
    last = max(
        (row for row in table if row["generation"] == "3"), key=lambda row: float(row["score"] or "nan")
    )
    best = json.loads((tmp_path / "found/best/config.json").read_text())
    assert best["config"]["learning_rate"] == pytest.approx(float(last["learning_rate"]))
    assert (tmp_path / "found/search.png").stat().st_size > 1000
    assert main(["train", "--config", "found/best/config.json", "--seeds", "7:9", "--out", "again"]) == 0
    again = json.loads((tmp_path / "again/config.json").read_text())
    assert again["config"]["entropy_weight"] == pytest.approx(float(last["entropy_weight"]))
    assert again["seeds"] == [7, 8]


@pytest.mark.usefixtures("unpainted")
def test_a_population_that_was_cut_off_goes_on(tmp_path, monkeypatch, capsys):
    assert main([*PBT, "--out", "whole"]) == 0

    class Killed(BaseException):
        pass

    from funcrl.io import populations

    with monkeypatch.context() as patch:
        saved = populations.save_population

        def die(folder, evolved):
            saved(folder, evolved)
            if len(evolved.generations) == 2:
                raise Killed

        patch.setattr(populations, "save_population", die)
        with pytest.raises(Killed):
            main([*PBT, "--out", "cut"])
    capsys.readouterr()
    assert main([*PBT, "--out", "cut"]) == 0
    assert "going on after generation 2 of 3" in capsys.readouterr().err
    for name in ("generations.csv", "checkpoint/population.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for command in ("resume", "evaluate", "export"):
        assert main([command, "cut"]) == 2
        assert (
            "must hold one run, got 'the search in cut'. Go on with it: funcrl search pbt"
            in capsys.readouterr().err
        )
    # What has come to its end is told again, and other words are another search.
    assert main([*PBT, "--out", "cut"]) == 0
    for word, named in (
        (["--population", "6"], "search"),
        (["--gamma", "0.5"], "config"),
        (["--steps", "80"], "asked_steps"),
    ):
        assert main([*PBT, *word, "--out", "cut"]) == 2
        assert f"search: {named} must have the {named} of the search in cut" in capsys.readouterr().err


@pytest.mark.usefixtures("quickly_painted")
def test_optuna_leaves_a_table_a_picture_and_settings_and_goes_on_to_more_trials(tmp_path, capsys):
    words = [*ASK, "--choose", "hidden=(4,),(3,)", "--out", "found"]
    assert main([*words, "--trials", "4"]) == 0
    assert len(rows("found/trials.csv")) == 4
    assert main([*words, "--trials", "7", "--sampler", "random"]) == 0
    assert "going on after 4 of 7 trials" in capsys.readouterr().err
    table = rows("found/trials.csv")
    assert [row["state"] for row in table] == ["complete"] * 7
    top = max(table, key=lambda row: float(row["value"]))
    best = json.loads((tmp_path / "found/best/config.json").read_text())
    assert best["config"]["learning_rate"] == pytest.approx(float(top["learning_rate"]))
    assert tuple(best["config"]["hidden"]) == eval(top["hidden"])
    assert main(["train", "--config", "found/best/config.json", "--steps", "20", "--out", "again"]) == 0


def test_what_a_dead_process_left_undone_is_asked_again(tmp_path, capsys):
    asked = studies.Asked({"learning_rate": Range(1e-5, 1e-2, log=True)}, {}, (0, 1), 3)

    def opened():
        return studies.open_study(f"sqlite:///{tmp_path / 'study.db'}", "funcrl", "tpe", "none", 0)

    dead = Forked(lambda: print([trial.params for trial in studies.ask(opened(), asked, 2)]), tmp_path)
    said = dead.communicate(timeout=60)
    assert dead.returncode == 0, said
    lost = [trial["learning_rate"] for trial in eval(said[0])]
    study = opened()
    mine = studies.ask(study, asked, 1)
    assert studies.take_up(study) == 2  # those of the dead one, and not this one's own
    again = studies.ask(study, asked, 2)
    assert [trial.params["learning_rate"] for trial in again] == lost
    assert studies.take_up(study) == 0
    for trial in (*mine, *again):
        study.tell(trial, 1.0)
    assert studies.finished(study) == 3


@pytest.mark.usefixtures("unpainted")
def test_trials_that_are_pruned_free_their_lanes(monkeypatch, capsys):
    from funcrl.train.search import Trials

    widths, kept = [], Trials.keep
    monkeypatch.setattr(Trials, "keep", lambda self, lanes: widths.append(len(lanes)) or kept(self, lanes))
    # The smaller the learning rate, the better.
    monkeypatch.setattr(Trials, "scores", lambda self, episodes=100: -self.values["learning_rate"].log10())
    words = [*ASK[:-6], "--batch", "8", "--seeds", "2", "--steps", "80", "--trials", "8"]
    assert main([*words, "--sampler", "random", "--pruner", "halving", "--out", "found"]) == 0
    table = rows("found/trials.csv")
    assert {row["state"] for row in table} == {"complete", "pruned"}
    assert widths == [8, 4, 2]  # lanes, two a trial
    assert [row["state"] for row in table].count("pruned") == 7
    best = max((row for row in table if row["state"] == "complete"), key=lambda row: float(row["value"]))
    assert float(best["learning_rate"]) == min(float(row["learning_rate"]) for row in table)


@pytest.mark.usefixtures("unpainted")
def test_searches_with_other_settings_share_a_database_and_nothing_else(tmp_path, capsys):
    place = ["--storage", f"sqlite:///{tmp_path / 'both.db'}"]
    assert main([*ASK, "--trials", "2", *place, "--out", "one"]) == 0
    other = [word.replace("learning_rate=1e-5:1e-2:log", "gamma=0.8:0.99") for word in ASK]
    assert main([*other, "--trials", "3", *place, "--out", "other"]) == 0
    assert [len(rows(f"{name}/trials.csv")) for name in ("one", "other")] == [2, 3]
    assert "gamma" in rows("other/trials.csv")[0]


@pytest.mark.usefixtures("unpainted")
def test_it_ends_where_no_episode_does(tmp_path, capsys):
    words = [*ASK[:-2], "--steps", "20", "--env.max-episode-steps", "500", "--trials", "2", "--out", "found"]
    words[words.index("--num-envs") + 1] = "1"
    calm = ["search", "optuna", "ppo", "Pendulum-v1", *words[4:]]
    assert main([word for word in calm if word not in ("--env.max-episode-steps", "500")]) == 2
    assert "--steps must be enough for episodes to end" in capsys.readouterr().err
    evolve = ["search", "pbt", "ppo", "Pendulum-v1", *PBT[4:]]
    assert main([*evolve, "--out", "evolved"]) == 2
    assert "num_generations must leave room for episodes to end" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search", "grid", "ppo"], "the first word must be one of 'optuna', 'pbt', got 'grid'"),
        (["search", "pbt"], "the second word must be an algorithm"),
        (["search", "pbt", "ppo", "CartPole-v1"], "--range must name a field and where it may lie"),
        ([*PBT, "--range", "gamma=1"], "--range must be FIELD=LOW:HIGH or FIELD=LOW:HIGH:log, got 'gamma=1'"),
        ([*PBT, "--range", "gamma=a:b"], "--range must have numbers for its ends"),
        ([*PBT, "--range", "gamma=0.9:0.8"], "low must be below high"),
        ([*PBT, "--range", "learning_rate=1:2"], "--range must name each field once"),
        ([*PBT, "--range", "hidden=1:2"], "hidden must be a number among the settings of ppo"),
        ([*PBT, "--population", "2"], "--population must be at least 4, got 2"),
        ([*PBT, "--generations", "9"], "--generations must be at most 3, the iterations of a lane, got 9"),
        ([*PBT, "--range", "gamma=0.9:1.5"], "gamma must lie in [0, 1]"),
        ([*PBT, "--range", "nothing=0.9:1.5"], "nothing must be a setting of ppo, got 'none of that name'"),
        ([*ASK, "--storage", "foo"], "--storage must be a database that can be opened"),
        ([*ASK, "--storage", "sqlite:////nowhere/x.db"], "--storage must be a database that can be opened"),
        ([*ASK, "--sampler", "best"], "--sampler must be one of"),
        ([*ASK, "--pruner", "best"], "--pruner must be one of"),
        ([*ASK, "--trials", "0"], "--trials must be at least 1"),
        ([*ASK, "--choose", "hidden"], "--choose must be FIELD=VALUE,VALUE"),
        (
            [*ASK, "--choose", "learning_rate=1,2"],
            "--choose must name settings of ppo, and none that --range names",
        ),
        ([*ASK, "--choose", "hidden=(4,),(4,)"], "--choose must have values that all differ"),
    ],
)
def test_what_cannot_be_searched_is_refused(words, message, tmp_path, capsys):
    assert main([*words, "--out", "found"] if len(words) > 4 else words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "found/study.db").exists()
    assert not (tmp_path / "found").exists() or "--storage" in words


def test_a_folder_that_holds_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "found").mkdir()
    (tmp_path / "found/thesis.tex").write_text("")
    assert main([*PBT, "--out", "found"]) == 2
    assert "--out must be an empty folder, or one of a search with these words" in capsys.readouterr().err
