"""Jobs from Python, on this host."""

import pytest

from funcrl import __version__
from funcrl.cli.jobs import submit


def test_a_job_says_how_its_tasks_ended(tmp_path):
    job = submit(["--version"], logs=tmp_path, tasks_per_node=2, cluster="local")
    assert job.results() == [0, 0], job.stderr()
    assert f"funcrl {__version__}" in job.stdout()


@pytest.mark.parametrize(
    ("words", "given", "message"),
    [
        ("train ppo", {}, "submit: words must be words of a command, got 'train ppo'"),
        ([], {}, "submit: words must be words of a command"),
        (["list"], {"nodes": 0}, "submit: nodes must be at least 1, got 0"),
        (["train", "ppo", "CartPole-v1"], {"nodes": 2}, "submit: words must say --out where several tasks"),
    ],
)
def test_what_is_no_job_is_refused(words, given, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        submit(words, logs=tmp_path, **given)
    assert not list(tmp_path.iterdir())
