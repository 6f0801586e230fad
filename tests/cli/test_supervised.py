"""`funcrl train classifier`, as a person meets it, and the folder that it leaves."""

import contextlib
import io
import json
import os
import re
import signal
import sys

import pytest
import torch
from torch import nn

from funcrl import data, nets
from funcrl.cli import epochs, main
from funcrl.core import tree
from funcrl.io import fit_into, open_fit, open_run
from funcrl.supervised import classifier, fitting, images_for
from funcrl.supervised.judging import judged
from tests.cli.conftest import run_eagerly
from tests.cli.test_cli import run
from tests.data.test_files import written

CPU = torch.device("cpu")
TINY = ["--net", "mlp", "--width", "8", "--batch-size", "256"]
WORDS = ["train", "classifier", "digits", "--seeds", "3,5,8", "--epochs", "2", *TINY]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which a command has left what it leaves, and what it said."""
    folder = tmp_path_factory.mktemp("finished")
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        run_eagerly(patch, folder)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            assert main(WORDS) == 0
    return folder / "runs" / "classifier-digits", out.getvalue(), err.getvalue()


def test_it_says_how_it_goes_and_what_the_seeds_have_reached(finished):
    folder, out, err = finished
    for text in (
        "1,438 images to learn from and 359 to judge by (test share 0.2, split seed 0), 8×8, grey, 10 classes",
        "compiling for 3 lanes on cpu",
        "epoch 1 of 2, test accuracy 0.",
        "epoch 2 of 2, test accuracy 0.",
        "images/s, 0 s left",
    ):
        assert text in err
    for text in (
        "3 seeds × 2 epochs, test accuracy",
        "95 % interval [",
        "images/s over all seeds",
        "s compiling",
    ):
        assert text in out
    finals = open_fit(folder).metric("test_accuracy")[:, -1]
    worst = int(finals.argmin())
    assert re.search(rf"worst +{float(finals[worst]):.4f} +seed {(3, 5, 8)[worst]}", out)
    assert re.search(
        rf"interquartile mean +{float(finals.mean()):.4f} ", out
    )  # of three, all are in the middle


def test_it_leaves_its_folder(finished):
    folder, out, _ = finished
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {"config.json", "metrics.csv", "curve.png", "checkpoint/states.safetensors", ".lock"}
    assert all(name in out for name in files - {".lock"})
    settings = json.loads((folder / "config.json").read_text())
    assert settings["command"] == "funcrl " + " ".join(WORDS)
    assert (settings["seeds"], settings["num_epochs"], settings["config"]["net"]) == ([3, 5, 8], 2, "mlp")
    assert settings["data"]["shape"] == [1, 8, 8]
    assert settings["data"]["test_share"] == 0.2
    assert settings["versions"]["torch"] == torch.__version__
    rows = (folder / "metrics.csv").read_text().splitlines()
    assert rows[0] == "seed,epoch,loss,accuracy,grad_norm,test_loss,test_accuracy"
    assert [row.split(",")[:2] for row in rows[1:]] == [[s, e] for e in "12" for s in "358"]


def test_a_folder_opens_and_a_seed_judges_the_images_that_were_held_back_as_it_did(finished):
    saved = open_fit(finished[0] / "config.json")
    images, labels = data.read(saved.settings["data"]["source"]).test.on(CPU)
    for lane, seed in enumerate(saved.seeds):
        right = classifier.logits(saved.state(seed), images).argmax(1) == labels
        assert torch.isclose(right.float().mean(), saved.metric("test_accuracy")[lane, -1])
    assert saved.classes == tuple("0123456789")
    assert saved.config == classifier.Config(net="mlp", width=8, batch_size=256)
    with pytest.raises(ValueError, match=r"open_fit: seed must be one of 3, 5, 8, got 4"):
        saved.state(4)
    with pytest.raises(ValueError, match=r"name must be one of .*test_accuracy"):
        saved.metric("accuracies")
    with pytest.raises(ValueError, match=r"must hold agents of an environment, .*open_fit"):
        open_run(finished[0])


def test_a_loaded_seed_gives_the_same_logits_bit_for_bit(tmp_path):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))
    network(torch.zeros(2, 1, 8, 8))
    config = classifier.Config(network=network, batch_size=256)
    images = data.read("digits")
    found = fit_into(tmp_path / "run", images, config=config, seeds=[1, 4], num_epochs=1, backend="eager")
    with pytest.raises(ValueError, match="config must be given where the network is one's own"):
        open_fit(tmp_path / "run")
    state, x = open_fit(tmp_path / "run", config).state(4), images.test.on(CPU)[0]
    expected = classifier.logits(tree.index(found.states, 1), x)
    assert torch.equal(classifier.logits(state, x), expected)
    assert not torch.equal(expected, classifier.logits(tree.index(found.states, 0), x))
    network.load_state_dict(nets.to_state_dict(state.params, state.buffers))
    assert torch.allclose(network.eval()(x), expected, atol=1e-5)


def test_one_value_a_seed_is_kept_in_the_folder(uncompiled, tmp_path):
    config = classifier.Config(net="mlp", width=4, batch_size=512, learning_rate=torch.tensor([0.0, 0.5]))
    found = fit_into(tmp_path / "run", data.read("digits"), config=config, seeds=[1, 4], num_epochs=1)
    saved = open_fit(tmp_path / "run")
    assert saved.config.learning_rate == saved.settings["config"]["learning_rate"] == [0.0, 0.5]
    for name, leaf in tree.named_leaves(found.states).items():
        assert torch.equal(leaf, tree.named_leaves(saved.states)[name]), name
    with pytest.raises(TypeError, match="fit_into: images must be a Split, got a LabelledImages"):
        fit_into(tmp_path / "other", data.digits())


def test_a_run_is_refused_replaced_and_repeated(finished, uncompiled, unpainted, capsys):
    first, again = str(finished[0]), ["train", "--config", str(finished[0])]
    before = (finished[0] / "metrics.csv").read_bytes()
    status, _, err = run(capsys, *again, "--out", first)
    assert status == 2
    assert "--out must be an empty folder" in err
    assert "--replace" in err
    assert run(capsys, *again, "--out", "copy")[0] == 0
    copy = open_fit("copy").folder
    assert (copy / "metrics.csv").read_bytes() == before
    assert run(capsys, *again, "--out", "copy", "--replace", "--seeds", "1", "--epochs", "1")[0] == 0
    assert open_fit("copy").metric("loss").shape == (1, 1)


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_ctrl_c_leaves_what_was_learnt_in_whole_epochs(uncompiled, unpainted, capsys, monkeypatch):
    call = epochs.EpochProgress.__call__

    def interrupting(self, epoch, figures):
        call(self, epoch, figures)
        os.kill(os.getpid(), signal.SIGINT)

    words = ["train", "classifier", "digits", "--seeds", "2", *TINY]
    assert run(capsys, *words, "--epochs", "1", "--out", "one")[0] == 0
    monkeypatch.setattr(epochs.EpochProgress, "__call__", interrupting)
    status, out, err = run(capsys, *words, "--epochs", "9", "--out", "cut")
    assert status == 130
    assert "stopping after this epoch; once more stops at once" in err
    assert "interrupted: what was learnt in 1 whole epoch is in cut" in err
    assert "stopped early: 9 epochs were planned" in out
    one, cut = open_fit("one").state(1), open_fit("cut").state(1)
    assert all(
        torch.equal(a, b) for a, b in zip(tree.leaves(one.params), tree.leaves(cut.params), strict=True)
    )


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_ctrl_c_before_the_first_epoch_leaves_no_folder_but_one_that_was_there(
    uncompiled, capsys, monkeypatch, tmp_path
):
    monkeypatch.setattr(fitting.Work, "compile", lambda self: os.kill(os.getpid(), signal.SIGINT))
    (tmp_path / "empty").mkdir()
    for folder in ("new", "empty"):
        status, _, err = run(capsys, "train", "classifier", "digits", *TINY, "--out", folder)
        assert status == 130
        assert "interrupted: nothing was learnt yet" in err
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["classifer", "digits"], "Did you mean 'classifier'"),
        (["classifier"], "DATA"),
        (
            ["classifier", "digit"],
            "got 'digit'. Did you mean 'digits'? Nothing is downloaded. A folder may hold",
        ),
        (["classifier", "nowhere/mnist"], "CIFAR-10, binary (data_batch_1.bin"),
        (
            ["classifier", "damaged"],
            "train-images-idx3-ubyte must hold 40 bytes, as its first ones say, got 39",
        ),
        (["classifier", "digits", "--net", "resnet"], "Did you mean 'resnet18'"),
        (
            ["classifier", "digits", "--net", "nin"],
            "at least 67 x 67 pixels, got (1, 32, 32). Write images.resized(67, 67), or --resize 67,67 on",
        ),
        (
            ["classifier", "digits", "--batch-size", "2000"],
            "batch_size must be at most the number of images, 1438",
        ),
        (["classifier", "digits", "--epochs", "0"], "num_epochs must be at least 1, got 0"),
        (["classifier", "digits", "--seeds", "0"], "--seeds must name at least one seed"),
        (["classifier", "digits", "--seeds", "3,3"], "seeds must all differ"),
        (["classifier", "digits", "--lerning-rate", "1"], "--learning-rate"),
        (["classifier", "digits", "--resize", "8x8"], "--resize must be HEIGHT,WIDTH, got '8x8'"),
        (["classifier", "digits", "--test-share", "1"], "test_share must leave at least one of 1797 images"),
        (["classifier", "digits", "--split-seed=-1"], "split_seed must be at least 0, got -1"),
        (["classifier", "digits", "--device", "cuda:77"], "device must be present"),
        (["classifier", "digits", "--out", "/dev/null/x"], "--out must"),
        (["classifier", "digits", "--frozen", "x.*"], "pattern must describe one of"),
    ],
)
def test_bad_input_ends_with_2_and_a_sentence_and_leaves_nothing(
    capsys, uncompiled, tmp_path, words, message
):
    if "damaged" in words:
        (tmp_path / "damaged").mkdir()
        images, labels = written(tmp_path / "damaged")
        (tmp_path / "damaged" / "train-images-idx3-ubyte").write_bytes(images.read_bytes()[:-1])
        labels.rename(tmp_path / "damaged" / "train-labels-idx1-ubyte")
    status, _, err = run(capsys, "train", *words)
    assert status == 2
    said = " ".join(err.replace("│", " ").split())
    assert message in said
    assert "compiling" not in said
    assert {path.name for path in tmp_path.iterdir()} <= {"damaged"}


def test_what_is_missing_is_named(capsys, uncompiled, monkeypatch):
    data.digits.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    status, _, err = run(capsys, "train", "classifier", "digits")
    assert status == 2
    assert "pip install 'funcrl[digits]'" in err


def test_help_and_list_name_it(capsys):
    for words in (["--help"], ["list"], ["train", "--help"], ["train", "classifier", "--help"]):
        _, out, _ = run(capsys, *words)
        assert "classifier" in out
        assert "digits" in out
    said = " ".join(out.replace("│", " ").split())
    for text in ("--epochs INT", "--resize", "--label-smoothing FLOAT", "train-images-idx3-ubyte"):
        assert text in said


def test_digits_are_enlarged_where_the_network_takes_none_so_small_and_size_counts_more():
    shapes = {"mlp": (1, 8, 8), "lenet": (1, 32, 32)}
    for net, shape in shapes.items():
        config = classifier.Config(net=net)
        assert images_for(classifier, config, "digits").train.shape == shape
        assert images_for(classifier, config, "digits", size=(20, 24)).test.shape == (1, 20, 24)


def test_the_figure_that_counts_is_that_of_held_out_images():
    assert judged(["loss", "accuracy", "test_loss", "test_accuracy"]).name == "test_accuracy"
    assert judged(["loss", "error", "test_loss", "test_error"]).name == "test_loss"
    assert not judged(["loss", "error"]).higher_is_better
