"""Agents as files that run without funcrl: torch's `.pt2` and ONNX, described beside them and checked by running them."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from funcrl import envs, nets
from funcrl.core import graphs, random, tree
from funcrl.core.checks import require
from funcrl.io.files import json_text, write_atomically
from funcrl.io.runs import SavedRun
from funcrl.train.deployed import Deployed, normalizer, of_lane, play
from funcrl.train.episodes import needs_env_states

FORMATS = ("pt2", "onnx")

CHECKED = 1000
"""Observations on which a file is compared with the agent."""

_EPISODES = 20
"""that are played to see what an agent sees"""


@dataclass(frozen=True)
class Lane:
    """One agent of a run, and where it has learnt."""

    run: SavedRun
    seed: int
    agent: Any
    """on the CPU, without a lane axis"""
    env: envs.AnyEnv
    env_state: Any
    """`[N]` of its environments where something of it outlives episodes, else None"""

    @property
    def plays(self) -> bool:
        """Whether its environment lives on the device, and can be played here."""
        return not isinstance(self.env, envs.HostEnv)

    @property
    def limit(self) -> int:
        """Steps of an episode at most."""
        return int(self.env.max_episode_steps or 1000)

    def deployed(self, sampling: bool = False) -> Deployed:
        """Return what acts."""
        return Deployed(self.run.algorithm, self.env, self.agent, self.env_state, sampling=sampling)


def lane_of(run: SavedRun, seed: int) -> Lane:
    """Return one agent of a run.

    Raises:
        ValueError: When the run has no agent of that seed.
    """
    hold = f"be one of the seeds of {run.folder}"
    require(seed in run.kept_seeds, "export", "--seed", hold, seed, f"It has {list(run.kept_seeds)}.")
    place = run.seeds.index(seed)
    kept = tree.index(run.env_states, place) if needs_env_states(run.env) else None
    agent = tree.index(run.agents, run.kept_seeds.index(seed))
    return Lane(run, seed, agent, of_lane(run.plan(processes=1).env, place), kept)


@dataclass(frozen=True)
class Signature:
    """Names of what goes into a policy and comes out of it."""

    observations: tuple[str, ...]
    carries: tuple[str, ...]
    sampling: bool

    @property
    def inputs(self) -> tuple[str, ...]:
        """In order."""
        return (*self.observations, *(("key",) if self.sampling else ()), *self.carries)

    @property
    def outputs(self) -> tuple[str, ...]:
        """In order."""
        return ("action", *(f"next_{name}" for name in self.carries))


class _Flat(torch.nn.Module):
    """A policy from tensors to tensors, in the order of its signature."""

    def __init__(self, policy: Deployed, example: tuple[Any, Any]) -> None:
        super().__init__()
        self._policy = policy
        self._obs, self._carry = example
        self._num_obs = len(tree.leaves(example[0]))

    def keep(self, needed: set[int]) -> None:
        """Let only those of the policy's tensors be buffers whose `id` is among these."""
        for name in self._policy.names:
            tensor = getattr(self._policy, name)
            if id(tensor) not in needed:
                # A plain tensor, which torch.export does not write where nothing reads it.
                delattr(self._policy, name)
                object.__setattr__(self._policy, name, tensor)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        observations, rest = tensors[: self._num_obs], tensors[self._num_obs :]
        key = rest[0] if self._policy.sampling else torch.zeros(2, dtype=torch.int32, device="cpu")
        carries = iter(rest[self._policy.sampling :])
        given = iter(observations)
        obs = tree.map(lambda _: next(given), self._obs)
        carry = tree.map(lambda _: next(carries), self._carry)
        action, after = self._policy(obs, key, carry)
        return (action, *tree.leaves(after))


def signature(policy: Deployed, obs: Any, carry: Any) -> Signature:
    """Return the names of a policy's inputs.

    Args:
        policy: What acts.
        obs: `[B, ...]` what it is shown.
        carry: `[B, ...]` what it remembers.
    """
    names = [path.strip("[]'.") for path in tree.named_leaves(obs)]
    observations = tuple(f"observation.{name}" if name else "observation" for name in names)
    carries = tuple(f"carry.{number}" for number in range(len(tree.leaves(carry))))
    return Signature(observations, carries, policy.sampling)


def program(policy: Deployed, obs: Any, carry: Any) -> torch.export.ExportedProgram:
    """Return a policy as torch exports it, with any number of rows, and none of what only training needs.

    Args:
        policy: What acts; not to be used afterwards.
        obs: `[B, ...]` an example of what it is shown.
        carry: `[B, ...]` an example of what it remembers.
    """
    inputs = split_inputs(signature(policy, obs, carry), obs, carry)
    rows = {0: torch.export.Dim("batch", min=1)}
    free = [
        None if policy.sampling and place == len(tree.leaves(obs)) else rows for place in range(len(inputs))
    ]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flat = _Flat(policy, (obs, carry))
        flat.keep(_read(flat, inputs))
        return torch.export.export(flat, inputs, dynamic_shapes=(tuple(free),))


def _read(flat: _Flat, inputs: tuple[Tensor, ...]) -> set[int]:
    """Return the `id` of every tensor that a policy needs besides its inputs."""
    leaves, spec = tree.flatten(inputs)
    graph, _ = graphs.trace(flat, leaves, spec)
    return {id(x) for x in graphs.lift_constants(graph)}


def split_inputs(names: Signature, obs: Any, carry: Any, key: Tensor | None = None) -> tuple[Tensor, ...]:
    """Return what a policy in a file is given: observations, a key where it draws, and what it remembers."""
    key = random.key(0, "cpu") if key is None else key
    return (*tree.leaves(obs), *((key,) if names.sampling else ()), *tree.leaves(carry))


def experience(lane: Lane, rows: int = CHECKED, seed: int = 0) -> tuple[Any, Any]:
    """Return what an agent sees and remembers, `[rows, ...]`: while it plays, or drawn where that cannot be had.

    Args:
        lane: Whose agent.
        rows: How many.
        seed: Of the episodes.
    """
    policy = lane.deployed()
    if lane.plays:
        carry = policy.first_carry(_EPISODES)
        steps = max(1, -(-rows // _EPISODES))
        given = (lane.env, _EPISODES, seed, max(steps, min(lane.limit, 4 * steps)), lane.env_state, carry)
        with torch.no_grad():
            _, observations, carries = play(policy, *given)
        seen, kept = (tree.map(lambda *x: torch.cat(x), *each) for each in (observations, carries))
        found = tree.leaves(seen)[0].shape[0]
        chosen = torch.arange(rows, dtype=torch.int64, device="cpu") * found // rows
        return tree.index(seen, chosen), tree.index(kept, chosen)
    space = lane.env.observation_space
    space.seed(seed)
    drawn = [_tensors(space, space.sample()) for _ in range(rows)]
    return tree.stack(drawn), policy.first_carry(rows)


def _tensors(space: spaces.Space[Any], value: Any) -> Any:
    example = nets.inputs.example(space, device=torch.device("cpu"))
    return tree.map(lambda like, x: torch.as_tensor(x, device="cpu").to(like.dtype), example, value)


@dataclass(frozen=True)
class Exported:
    """A policy in a file."""

    path: Path
    signature: Signature
    run: Callable[..., tuple[Tensor, ...]]
    """from tensors in the order of the inputs to tensors in that of the outputs"""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size


def description_of(path: Path) -> Path:
    """Return where what a policy is stands: beside it, as `policy.onnx.json`."""
    return path.with_name(f"{path.name}.json")


def write(lane: Lane, path: Path, *, sampling: bool = False) -> Exported:
    """Write one agent into a file, and what it is into `description_of` it.

    Args:
        lane: Which.
        path: `NAME.pt2` or `NAME.onnx`.
        sampling: Whether it draws its actions, from a key that is a further input.

    Returns:
        The file, opened.

    Raises:
        ValueError: When the file does something else than the agent on any of `CHECKED` observations.
        ModuleNotFoundError: Without what the extra `onnx` brings.
    """
    policy = lane.deployed(sampling)
    obs, carry = experience(lane)
    names = signature(policy, obs, carry)
    exported = program(lane.deployed(sampling), *tree.index((obs, carry), slice(16)))
    described = describe(lane, names, obs, carry)
    if path.suffix == ".onnx":
        write_atomically(path, _onnx(exported, names, described))
    else:
        buffer = io.BytesIO()
        torch.export.save(exported, buffer, extra_files={"policy.json": json_text(described, 1)})
        write_atomically(path, buffer.getvalue())
    write_atomically(description_of(path), json_text(described, 1).encode())
    done = open_exported(path, names)
    check(lane, policy, done, (obs, carry))
    return done


def open_exported(path: Path, names: Signature) -> Exported:
    """Open a file that `write` left."""
    if path.suffix == ".onnx":
        import onnxruntime  # type: ignore[import-untyped]

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # policies are small: threads would wait for each other
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])

        def run(*tensors: Tensor) -> tuple[Tensor, ...]:
            fed = {name: x.numpy() for name, x in zip(names.inputs, tensors, strict=True)}
            return tuple(torch.from_numpy(np.asarray(x)) for x in session.run(list(names.outputs), fed))

        return Exported(path, names, run)
    with _silent():
        module = torch.export.load(io.BytesIO(path.read_bytes())).module()

    def run_module(*tensors: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return tuple(module(*tensors))

    return Exported(path, names, run_module)


def _onnx(exported: torch.export.ExportedProgram, names: Signature, described: dict[str, Any]) -> bytes:
    with _silent():
        made: Any = torch.onnx.export(
            exported,
            dynamo=True,
            input_names=list(names.inputs),
            output_names=list(names.outputs),
            verbose=False,
        )
    model = made.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = "funcrl", json_text(described)
    return bytes(model.SerializeToString())


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep torch from telling everybody what concerns its makers; errors are raised all the same."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def describe(lane: Lane, names: Signature, obs: Any, carry: Any) -> dict[str, Any]:
    """Return what a person needs to know to run a policy: names, shapes, types, bounds and meaning."""
    run, space = lane.run, lane.env.observation_space
    norm = normalizer(lane.env)
    if norm is not None:
        space = norm.env.observation_space
    inner = type(envs.innermost(lane.env))
    leaves = dict(zip(names.observations, tree.leaves(obs), strict=True))
    inputs = [
        {
            "name": name,
            **_shape(x),
            **_bounds(space, name),
            **_range(x),
            "meaning": "what the environment shows",
        }
        for name, x in leaves.items()
    ]
    if names.sampling:
        key = {"name": "key", "shape": [2], "dtype": "int32"}
        inputs.append({**key, "meaning": "random bits for this call: two new integers each time"})
    first = [x[0].tolist() for x in tree.leaves(lane.deployed().first_carry(1))]
    for name, x, begin in zip(names.carries, tree.leaves(carry), first, strict=True):
        meaning = f"what is remembered: next_{name} of the step before, and `first` where an episode begins"
        inputs.append({"name": name, **_shape(x), "meaning": meaning, "first": begin})
    action = lane.env.action_space
    outputs: list[dict[str, Any]] = [
        {
            "name": "action",
            "shape": ["batch", *(action.shape or ())],
            "dtype": str(np.dtype(action.dtype)) if action.dtype is not None else "",
            "space": str(action),
            "meaning": _doc(inner, "action_space")
            or "an action of the environment, clipped and scaled as it wants it",
        }
    ]
    for name, x in zip(names.outputs[1:], tree.leaves(carry), strict=True):
        outputs.append({"name": name, **_shape(x), "meaning": "what is remembered after this step"})
    return {
        "algorithm": run.settings["algorithm"],
        "environment": run.settings["environment"],
        "wrappers": run.settings.get("wrappers", []),
        "about_observations": " ".join(
            filter(None, (_doc(inner, "observation_space"), _doc(inner, "observation")))
        ),
        "about_the_environment": inspect.getdoc(inner) or "",
        "normalises_observations": norm is not None,
        "policy": "draws its actions" if names.sampling else "takes the best action",
        "seed": lane.seed,
        "steps": run.settings["num_steps"],
        "inputs": inputs,
        "outputs": outputs,
        "versions": {**run.settings.get("versions", {}), "gymnasium": gymnasium.__version__},
    }


def _shape(x: Tensor) -> dict[str, Any]:
    return {"shape": ["batch", *x.shape[1:]], "dtype": str(x.dtype).removeprefix("torch.")}


def _range(x: Tensor) -> dict[str, Any]:
    """Return the least and the largest numbers that the agent saw while it played."""
    return {"seen_low": x.amin(dim=0).tolist(), "seen_high": x.amax(dim=0).tolist()}


def _bounds(space: spaces.Space[Any], name: str) -> dict[str, Any]:
    part: Any = space
    for word in name.split(".")[1:]:
        part = part[word] if isinstance(part, spaces.Dict) else part
    if isinstance(part, spaces.Box):
        return {"low": part.low.tolist(), "high": part.high.tolist()}
    return {"space": str(part)}


def _doc(kind: type, name: str) -> str:
    member = getattr(kind, name, None)
    text = inspect.getdoc(member.fget if isinstance(member, property) else member)
    return (text or "").split("\n\n")[0].replace("\n", " ")


def check(lane: Lane, policy: Deployed, done: Exported, seen: tuple[Any, Any] | None = None) -> float:
    """Compare a file with the agent, and return by how much they differ at most.

    Args:
        lane: Whose agent.
        policy: What it does.
        done: The file.
        seen: On what; by default on its `experience`.

    Raises:
        ValueError: When that is more than rounding.
    """
    obs, carry = experience(lane) if seen is None else seen
    key = random.key(1, "cpu")
    with torch.no_grad():
        action, after = policy(obs, key, carry)
    wanted = (action, *tree.leaves(after))
    found = done.run(*split_inputs(done.signature, obs, carry, key))
    differences = [float((a.double() - b.double()).abs().max()) for a, b in zip(wanted, found, strict=True)]
    # Where two actions are worth the same but for rounding, either is the best.
    is_choice = not torch.is_floating_point(action)
    if is_choice:
        differ = (wanted[0] != found[0]).flatten(1).any(dim=1) if action.ndim > 1 else wanted[0] != found[0]
        differences[0] = 0.0 if float(differ.float().mean()) <= 1e-3 else 1.0
    worst = max(differences)
    hold = f"do what the agent does on {CHECKED} observations, to 1e-4"
    require(worst <= 1e-4, "export", str(done.path), hold, f"a difference of {worst:.3g}")
    return worst
