"""What a rank does in `test_data_parallel`."""

import dataclasses

import torch
from torch import distributed

from funcrl.algos import dqn, ppo, sac
from funcrl.core import collective, random, tree
from funcrl.io import save
from funcrl.train import make_plan, train
from funcrl.train.plan import with_parts
from funcrl.train.programs import make_run
from tests.algos.table import CASES, OffPolicy, OnPolicy

NOT_IN_PARTS = ("q_learning", "ucb")
PPO = {
    "config": ppo.Config(num_envs=4, window_length=4, num_epochs=2, num_minibatches=2, hidden=(8,)),
    "num_steps": 32,
}
DQN = {"config": dqn.Config(hidden=(8,), warmup_steps=8, batch_size=8, buffer_size=100), "num_steps": 16}
# Long enough for priorities to decide what is drawn.
RANKED = {"config": tree.replace(DQN["config"], replay="prioritised", n_step=2), "num_steps": 30}
SAC = {"config": sac.Config(hidden=(8,), warmup_steps=8, batch_size=8, buffer_size=100), "num_steps": 14}
RUNS = {"ppo": PPO, "dqn": DQN, "rainbow-like": RANKED, "sac": SAC}
ALIKE = {"seeds": [0, 1], "processes": 1}


def agent_and_env(name):
    """Of a run."""
    return {"ppo": ("ppo", "CartPole-v1"), "sac": ("sac", "Pendulum-v1")}.get(name, ("dqn", "CartPole-v1"))


def cases():
    """Those that learn from batches which can be cut, by name."""
    found = {}
    for case in CASES:
        if isinstance(case, (OnPolicy, OffPolicy)) and tree.leaves(case.batch())[0].shape[0] % 2 == 0:
            found[case.id] = case
    return found


def updated(case, number, count, times=2):
    """Return an agent after some updates with its part of a batch."""
    state, batch = case.init(1), case.batch()
    size = tree.leaves(batch)[0].shape[0] // count
    for _ in range(times):
        with collective.over(count), random.rows_of(number * size, size):
            state = case.algorithm.update(state, tree.index(batch, slice(number * size, (number + 1) * size)))
    return state.params, state.metrics


def learn(rank, count, folder):
    """Learn as one of several, and write into a folder what it has come to."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count)
    found = {name: tree.leaves(updated(case, rank, count)) for name, case in cases().items()}
    for name, given in RUNS.items():
        result = train(*agent_and_env(name), **given, **ALIKE, backend="eager", data_parallel=True)
        found[f"run {name}"] = [*tree.leaves(result.states.params), result.returns]
    # Traced: one graph more than alone, and the same numbers.
    plan = with_parts(make_plan("ppo", "CartPole-v1", **PPO, **ALIKE, backend="aot_eager"))
    run = make_run(plan, [0, 1])
    for _ in range(plan.num_iterations):
        run.iterate()
    found["traced"] = [*tree.leaves(run.agent.params), torch.tensor(run.num_graphs)]
    # Other seeds, so that nothing but what is restored counts.
    run, again = (
        make_run(dataclasses.replace(plan, seeds=seeds, backend="eager"), [0, 1])
        for seeds in ((0, 1), (8, 9))
    )
    for one in (run, again):
        one.iterate()
    again.restore(run.carry)
    for one in (run, again):
        one.iterate()
    found["restored"] = [*tree.leaves(again.carry.envs), *tree.leaves(again.agent.params)]
    found["gone on"] = [*tree.leaves(run.carry.envs), *tree.leaves(run.agent.params)]
    save(folder / f"rank-{rank}.safetensors", found)
    said = []
    for name, config in (
        ("ppo", ppo.Config(num_envs=2, window_length=9, num_minibatches=6, num_epochs=1, hidden=(8,))),
        ("ppo", ppo.Config(num_envs=3, window_length=8, num_minibatches=1)),
    ):
        try:
            train(
                name, "CartPole-v1", config=config, num_steps=99, backend="eager", data_parallel=True, **ALIKE
            )
        except ValueError as error:
            said.append(str(error))
    (folder / f"rank-{rank}.txt").write_text("\n".join(said))
