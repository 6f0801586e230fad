"""A policy over HTTP: what it answers, and what it does not."""

import concurrent.futures
import functools
import os
import signal
import time

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from funcrl.cli import main
from funcrl.core import random, tree
from funcrl.io import exporting
from funcrl.io.files import json_text
from funcrl.serve.access import Limits, Tokens, parse_tokens
from funcrl.serve.app import Settings, make_app
from funcrl.serve.rows import open_policy
from funcrl.train.deployed import Deployed
from tests.algos.table import CASES
from tests.forked import Forked

pytestmark = pytest.mark.usefixtures("operators_read_once")

ANNA, BERT = "anna-0123456789abcdef", "bert-0123456789abcdef"


def policy_of(folder, name, sampling=False, kind="onnx"):
    """Write the policy of an untrained agent of the table."""
    case = next(case for case in CASES if case.id == name)
    agent = case.init(3)
    obs = case.observations(20)
    deployed = Deployed(case.algorithm, case.env, agent, sampling=sampling)
    carry = deployed.first_carry(20)
    names = exporting.signature(deployed, obs, carry)
    run = type(
        "Run",
        (),
        {
            "settings": {"algorithm": case.name, "environment": "test", "num_steps": 0},
            "algorithm": case.algorithm,
        },
    )
    lane = exporting.Lane(run, 3, agent, case.env, None)
    described = exporting.describe(lane, names, obs, carry)
    path = folder / f"policy.{kind}"
    program = exporting.program(Deployed(case.algorithm, case.env, agent, sampling=sampling), obs, carry)
    path.write_bytes(exporting._onnx(program, names, described))
    exporting.description_of(path).write_text(json_text(described))
    return path, Deployed(case.algorithm, case.env, agent, sampling=sampling), obs


@pytest.fixture(scope="module")
def pole(tmp_path_factory):
    return policy_of(tmp_path_factory.mktemp("pole"), "ppo")


def client_of(path, tokens=None, **limits):
    tokens = Tokens(None, {} if tokens is None else {"FUNCRL_TOKENS": tokens})
    return TestClient(make_app(open_policy(path), tokens, Settings(**limits)))


@pytest.fixture(scope="module")
def client(pole):
    with client_of(pole[0]) as client:
        yield client


def test_one_observation_and_a_batch_get_the_agents_actions(client, pole):
    _, deployed, obs = pole
    expected = deployed(obs, random.key(0), ())[0].tolist()
    answer = client.post("/act", json={"observation": obs.tolist()})
    assert (answer.status_code, answer.json()) == (200, {"action": expected})
    one = client.post("/act", json={"observation": obs[7].tolist()})
    assert one.json() == {"action": expected[7]}


def test_an_agent_that_remembers_is_given_what_it_said(tmp_path):
    path, deployed, obs = policy_of(tmp_path, "ppo-gru")
    with client_of(path) as client:
        carry, given = deployed.first_carry(1), {}
        for row in range(3):
            action, carry = deployed(obs[row : row + 1], random.key(0), carry)
            answer = client.post("/act", json={"observation": obs[row].tolist(), **given}).json()
            assert answer["action"] == action.tolist()[0]
            assert np.allclose(answer["carry"]["carry.0"], tree.leaves(carry)[0].numpy()[0], atol=1e-5)
            given = {"carry": answer["carry"]}
        for wrong in ({"carry.0": [1.0]}, {}, [], {"carry.1": answer["carry"]["carry.0"]}):
            assert (
                client.post("/act", json={"observation": obs[0].tolist(), "carry": wrong}).status_code == 422
            )


def test_an_agent_that_draws_draws_anew(tmp_path):
    path, *_ = policy_of(tmp_path, "ppo-box", sampling=True)
    with client_of(path) as client:
        found = {str(client.post("/act", json={"observation": [1.0, 0.0, 0.0]}).json()) for _ in range(4)}
        assert len(found) == 4


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("{", 400, "this is not JSON"),
        ("[" * 100_000, 400, "this is not JSON"),
        ("\xff", 400, "this is not JSON"),
        ("[]", 422, 'write {"observation": [...]}'),
        ("{}", 422, 'write {"observation": [...]}'),
        ('{"observation": [0, 0, 0, 0], "more": 1}', 422, "there is nothing called more"),
        ('{"observation": [0, 0, 0]}', 422, "observation is numbers [4], or rows of that, not numbers [3]"),
        ('{"observation": [[0, 0, 0, 0], [0]]}', 422, "all of one length"),
        ('{"observation": [[[0, 0, 0, 0]]]}', 422, "and no deeper"),
        ('{"observation": []}', 422, "not numbers [0]"),
        ('{"observation": "0"}', 422, "of numbers"),
        ('{"observation": [0, 0, 0, true]}', 422, "of numbers"),
        ('{"observation": [0, 0, 0, null]}', 422, "of numbers"),
        ('{"observation": [0, 0, 0, NaN]}', 422, "has finite numbers only"),
        ('{"observation": [0, 0, 0, 1e999]}', 422, "has finite numbers only"),
        ('{"observation": [0, 0, 0, 1e39]}', 422, "has numbers that float32 can hold only"),
        ('{"observation": [0, 0, 0, ' + "9" * 400 + "]}", 422, "all of one length"),
        ('{"observation": [0, 0, 0, 0], "carry": {}}', 422, "this policy remembers nothing"),
        ('{"observation": [' + "[0,0,0,0]," * 9 + "[0,0,0,0]]}", 422, "10 observations, and 8 at most"),
        ('{"observation": ' + " " * 2000 + "[0, 0, 0, 0]}", 413, "a request has at most 1000 bytes"),
    ],
)
def test_what_does_not_fit_gets_a_sentence(body, status, message, pole):
    with client_of(pole[0], most_bytes=1000 if status == 413 else 1 << 20, most_rows=8) as client:
        answer = client.post(
            "/act", content=body.encode("latin-1"), headers={"Content-Type": "application/json"}
        )
    assert answer.status_code == status
    assert message in answer.json()["error"]


def test_other_paths_methods_and_types_get_one_too(client):
    assert client.get("/nothing").json()["error"].startswith("there is nothing at /nothing")
    assert client.get("/act").status_code == 405
    assert client.post("/act", content="{}", headers={"Content-Type": "text/plain"}).status_code == 415
    chunks = (b"[" for _ in range(3))
    assert (
        client.post("/act", content=chunks, headers={"Content-Type": "application/json"}).status_code == 400
    )


def test_whole_numbers_are_asked_for_where_the_agent_sees_some(tmp_path):
    path, deployed, obs = policy_of(tmp_path, "q_learning")
    with client_of(path) as client:
        expected = deployed(obs, random.key(0), ())[0].tolist()
        assert client.post("/act", json={"observation": obs.tolist()}).json() == {"action": expected}
        assert client.post("/act", json={"observation": int(obs[0])}).json() == {"action": expected[0]}
        for wrong in (0.5, 2**70, -(2**63) - 1025):
            answer = client.post("/act", json={"observation": wrong})
            assert (answer.status_code, "whole numbers" in answer.json()["error"]) == (422, True)


def test_only_those_with_a_token_may_ask_and_not_too_often(pole):
    asked = {"json": {"observation": [0.0] * 4}}
    with client_of(pole[0], f"anna={ANNA},bert={BERT}", rate=3.0) as client:

        def status(token, path="/act"):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            return (
                client.post(path, **asked, headers=headers)
                if path == "/act"
                else client.get(path, headers=headers)
            )

        assert status(None).status_code == 401
        assert "a token is needed" in status(None).json()["error"]
        assert status("nobody-0123456789abcdef").json()["error"] == "this token is nobody's"
        assert [status(ANNA).status_code for _ in range(4)] == [200, 200, 200, 429]
        assert int(status(ANNA).headers["Retry-After"]) >= 1
        assert status(BERT, "/metrics").status_code == 200
        assert status(BERT, "/policy").json()["environment"] == "test"
        # Guessing is not free of charge.
        assert [status("x" * 20).status_code for _ in range(4)][-1] == 429
        assert status(None, "/health").status_code == 200
        assert status(None, "/ready").status_code == 200
        assert status(None, "/metrics").status_code in (401, 429)
        assert client.post("/act", **asked, headers={"Authorization": f"Basic {ANNA}"}).status_code in (
            401,
            429,
        )


def test_a_token_is_revoked_without_a_restart(tmp_path):
    path, clock = tmp_path / "tokens.txt", [0.0]
    path.write_text(f"anna = {ANNA}  # until spring\n\nbert={BERT}\n")
    tokens = Tokens(path, {"FUNCRL_TOKENS": "carl=carl-0123456789abcdef"}, now=lambda: clock[0])
    assert [tokens.name_of(token) for token in (ANNA, BERT, "carl-0123456789abcdef")] == [
        "anna",
        "bert",
        "carl",
    ]
    assert [tokens.name_of(token) for token in (None, "", "anna", ANNA[:-1], ANNA + "x")] == [None] * 5
    path.write_text(f"bert={BERT}\n")
    assert tokens.name_of(ANNA) == "anna"  # not looked at again yet
    clock[0] = 2.0
    assert [tokens.name_of(token) for token in (ANNA, BERT)] == [None, "bert"]
    path.write_text("bert")  # half of a line
    clock[0] = 4.0
    with pytest.warns(RuntimeWarning, match="must be name=token"):
        assert tokens.name_of(BERT) is None  # its line is not there as it was
    path.write_text(f"bert={BERT}\nanna={ANNA}\n")
    clock[0] = 5.0
    assert [tokens.name_of(token) for token in (ANNA, BERT)] == ["anna", "bert"]
    path.write_text(f"bert={BERT}\nnonsense\ncora=cora-0123456789abcdef\n")
    clock[0] = 7.0
    with pytest.warns(RuntimeWarning, match="must be name=token"):
        assert [tokens.name_of(token) for token in (ANNA, BERT, "cora-0123456789abcdef")] == [
            None,
            "bert",
            None,
        ]
    path.unlink()
    clock[0] = 9.0
    with pytest.warns(RuntimeWarning, match="still count"):
        assert [tokens.name_of(token) for token in (BERT, "carl-0123456789abcdef")] == [None, "carl"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("anna", "entry 1 of x must be name=token"),
        ("anna=short", "must have a token of at least 16 letters, without spaces, got 'one of 5'"),
        ("anna=0123456789 abcdef0", "without spaces"),
        (f"anna={ANNA}\nanna={BERT}", "entry 2 of x must have a name of its own"),
    ],
)
def test_tokens_that_are_none_are_refused_and_not_shown(text, message):
    with pytest.raises(ValueError, match="must") as found:
        parse_tokens(text, "x")
    assert message in str(found.value)
    assert "0123456789" not in str(found.value)


def test_a_caller_has_a_seconds_worth_and_then_its_rate():
    clock = [0.0]
    limits = Limits(4.0, now=lambda: clock[0])
    assert [limits.wait("anna") for _ in range(5)] == [0.0] * 4 + [0.25]
    assert limits.wait("bert") == 0.0
    clock[0] = 0.25
    assert [limits.wait("anna") for _ in range(2)] == [0.0, 0.25]
    clock[0] = 100.0
    assert [limits.wait("anna") for _ in range(5)] == [0.0] * 4 + [0.25]
    assert Limits(float("inf")).wait("anna") == 0.0


def test_what_arrives_together_is_answered_together_and_each_gets_its_own(pole, client):
    path, deployed, obs = pole
    expected = deployed(obs, random.key(0), ())[0].tolist()
    with client_of(path) as client, concurrent.futures.ThreadPoolExecutor(16) as pool:
        asked = [obs[i % 20 : i % 20 + 1 + i % 3] for i in range(200)]
        answers = list(
            pool.map(lambda rows: client.post("/act", json={"observation": rows.tolist()}).json(), asked)
        )
        for i, (rows, answer) in enumerate(zip(asked, answers, strict=True)):
            assert answer["action"] == expected[i % 20 : i % 20 + len(rows)]
        text = client.get("/metrics").text
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(figures['funcrl_requests_total{path="/act",status="200"}']) == 200
    assert float(figures["funcrl_observations_total"]) == sum(len(rows) for rows in asked)
    assert float(figures["funcrl_batch_size_sum"]) == sum(len(rows) for rows in asked)
    assert float(figures["funcrl_act_seconds_count"]) == 200
    counted = sum(float(figures.get(f'funcrl_actions_total{{action="{a}"}}', 0)) for a in range(2))
    assert counted == sum(len(rows) for rows in asked)


def test_observations_that_the_agent_never_saw_are_counted(pole):
    with client_of(pole[0]) as client:
        client.post("/act", json={"observation": [[0.0] * 4, [99.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, -99.0]]})
        line = next(
            x for x in client.get("/metrics").text.splitlines() if x.startswith("funcrl_observations_outside")
        )
        assert float(line.split()[1]) >= 2.0


def test_the_page_says_what_is_asked_for(client):
    page = client.get("/openapi.json").json()
    schema = page["paths"]["/act"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    one, several = schema["properties"]["observation"]["anyOf"]
    assert (one["type"], one["minItems"], one["maxItems"], one["items"]["type"]) == ("array", 4, 4, "number")
    assert several["items"] == one
    assert set(page["paths"]["/act"]["post"]["responses"]) >= {"200", "400", "401", "413", "422", "429"}


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_told_to_stop_it_answers_what_it_has_begun(pole, tmp_path):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["serve", str(pole[0]), "--port", str(port)]
    process = Forked(functools.partial(main, words), tmp_path)
    url, until = f"http://127.0.0.1:{port}", time.monotonic() + 60
    while time.monotonic() < until:
        try:
            if httpx.get(f"{url}/ready").status_code == 200:
                break
        except httpx.TransportError:
            time.sleep(0.1)
    obs = pole[2].tolist()
    expected = pole[1](pole[2], random.key(0), ())[0].tolist()
    answered, refused = [0], [0]

    def ask(_):
        with httpx.Client() as own:
            while True:
                try:
                    answer = own.post(f"{url}/act", json={"observation": obs})
                except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError):
                    refused[0] += 1  # no answer at all, where the connection was being closed
                    return
                assert (answer.status_code, answer.json()) == (200, {"action": expected})
                answered[0] += 1

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, i) for i in range(4)]
        while answered[0] <= 20 and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGTERM)
        for one in asking:
            one.result(timeout=30)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert answered[0] > 20
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["policy.txt"], "FILE must end in .onnx or .pt2, got 'policy.txt'"),
        (["away.onnx"], "away.onnx must be there. Write funcrl export DIR --out away.onnx"),
        (["--host", "0.0.0.0"], "--host must be this host's loopback where nobody needs a token"),
        (["--port", "70000"], "--port must be below 65536"),
        (["--rate", "0"], "--rate must be above 0"),
        (["--tokens", "away.txt"], "--tokens must be a file, got 'away.txt'"),
        (["--tokens", "damaged.onnx"], "must be name=token"),
        (["--tokens", "empty.txt"], "--tokens must hold at least one token"),
        (["--certificate", "empty.txt"], "--certificate must stand beside --private-key"),
        (["damaged.onnx"], "damaged.onnx must be a policy that runs"),
        (["other.onnx"], "other.onnx.json must describe a policy of funcrl export"),
    ],
)
def test_what_cannot_be_served_is_refused(words, message, pole, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("# nobody\n")
    for name, text in (("damaged", exporting.description_of(pole[0]).read_text()), ("other", "{}")):
        (tmp_path / f"{name}.onnx").write_bytes(b"not a policy \xff\xfe")
        (tmp_path / f"{name}.onnx.json").write_text(text)
    given = words if words[0].endswith((".txt", ".onnx")) else [str(pole[0]), *words]
    assert main(["serve", *given]) == 2
    assert message in capsys.readouterr().err
