"""The three autoreset modes against Gymnasium's SyncVectorEnv on the same dynamics, step by step."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from funcrl.core import jit, random, tree
from funcrl.envs.autoreset import owned
from funcrl.envs.cartpole import CartPole
from funcrl.envs.single import TorchEnv
from funcrl.envs.vector import EPISODES_AT_A_TIME, TorchVectorEnv

NUM = 3
MASKS = st.lists(st.booleans(), min_size=NUM, max_size=NUM).filter(any)
SEEDS = st.lists(st.one_of(st.none(), st.integers(0, 5)), min_size=NUM, max_size=NUM)


@tree.struct
class Walk:
    """A random walk with drift: random beginnings, noisy steps, ends of both kinds within 5 steps."""

    end: float = 1.5
    max_episode_steps: int | None = tree.static(default=4)
    observation_space = gymnasium.spaces.Box(-100.0, 100.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def initial(self, key):
        return torch.cat([random.uniform(key, (1,), -1.0, 1.0), torch.zeros(1, device=key.device)])

    def transition(self, state, action, key):
        moved = state[0] + (2.0 * action - 1.0) * random.uniform(key)
        return torch.stack([moved, state[1] + 1.0])

    def observation(self, state, key):
        return state

    def reward(self, state, action, next_state, key):
        return next_state[0] * 2.0

    def terminal(self, state, key):
        return state[0].abs() > self.end


class Machine(RuleBasedStateMachine):
    mode: AutoresetMode

    @initialize(seeds=st.lists(st.integers(0, 5), min_size=NUM, max_size=NUM))
    def begin(self, seeds):
        self.ours = TorchVectorEnv(Walk(), NUM, backend="eager", autoreset_mode=self.mode)
        make = lambda: TorchEnv(Walk(), backend="eager")
        self.theirs = SyncVectorEnv([make] * NUM, autoreset_mode=self.mode)
        self.over = np.zeros(NUM, dtype=bool)
        self._reset(seeds, None)

    def _reset(self, seeds, mask):
        # Gymnasium takes the mask out of the dict that it is given, so each gets its own.
        options = lambda: None if mask is None else {"reset_mask": np.array(mask)}
        obs, _ = self.ours.reset(seed=seeds, options=options())
        expected, _ = self.theirs.reset(seed=seeds, options=options())
        assert np.array_equal(obs.numpy(), expected)
        self.over = np.zeros(NUM, dtype=bool) if mask is None else self.over & ~np.array(mask)

    @rule(seeds=st.one_of(st.none(), SEEDS))
    def reset_all(self, seeds):
        self._reset(seeds, None)

    @rule(mask=MASKS, seeds=st.one_of(st.none(), SEEDS))
    def reset_some(self, mask, seeds):
        self._reset(seeds, mask)

    @precondition(lambda self: self.mode != AutoresetMode.DISABLED or not self.over.any())
    @rule(actions=st.lists(st.integers(0, 1), min_size=NUM, max_size=NUM))
    def step(self, actions):
        obs, reward, terminated, truncated, infos = self.ours.step(torch.tensor(actions))
        expected = self.theirs.step(np.array(actions))
        for ours, theirs in zip((obs, reward, terminated, truncated), expected[:4], strict=True):
            assert np.array_equal(ours.numpy(), theirs.astype(ours.numpy().dtype))
        self.over = expected[2] | expected[3]
        assert_same_infos(infos, expected[4])
        if self.mode == AutoresetMode.SAME_STEP:
            assert infos["_final_obs"].tolist() == infos["_final_info"].tolist() == self.over.tolist()
        else:
            assert not {"final_obs", "final_info"} & set(infos)

    @precondition(lambda self: self.mode == AutoresetMode.DISABLED and self.over.any())
    @rule()
    def step_over_an_end(self):
        with pytest.raises(ValueError, match=r"Walk\.step: every episode that is over must be reset"):
            self.ours.step(torch.zeros(NUM, dtype=torch.int64))
        # Gymnasium refuses too, but only after it has stepped the environments before that one.

    @precondition(lambda self: self.mode == AutoresetMode.DISABLED and self.over.any())
    @rule()
    def reset_what_is_over(self):
        self._reset(None, self.over.tolist())


def assert_same_infos(ours, theirs):
    """Key for key what SyncVectorEnv gives; what it leaves out when nobody has it, nobody has in ours."""
    assert set(theirs) <= set(ours)
    for name in [name for name in ours if name[0] != "_"]:
        mask = ours[f"_{name}"].numpy()
        assert np.array_equal(mask, theirs.get(f"_{name}", np.zeros(NUM, dtype=bool))), name
        if name in theirs and isinstance(ours[name], dict):
            assert_same_infos(ours[name], theirs[name])
        for i in mask.nonzero()[0] if not isinstance(ours[name], dict) else ():
            assert np.array_equal(ours[name][i].numpy(), theirs[name][i]), name


def machine(mode):
    case = type(f"Machine{mode.name}", (Machine,), {"mode": mode}).TestCase
    case.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)
    return case


TestSameStep = machine(AutoresetMode.SAME_STEP)
TestNextStep = machine(AutoresetMode.NEXT_STEP)
TestDisabled = machine(AutoresetMode.DISABLED)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_traced_modes_equal_eager_ones(mode):
    ours, eager = (
        TorchVectorEnv(Walk(), NUM, backend=b, autoreset_mode=mode) for b in ("aot_eager", "eager")
    )
    assert torch.allclose(ours.reset(seed=3)[0], eager.reset(seed=3)[0])
    for t in range(30):
        actions = torch.tensor([0, 1, t % 2])
        row, expected = ours.step(actions), eager.step(actions)
        for a, b in zip(tree.leaves(row), tree.leaves(expected), strict=True):
            assert torch.allclose(a.float(), b.float(), atol=1e-5)
        over = row[2] | row[3]
        if mode == AutoresetMode.DISABLED and over.any():
            for env in (ours, eager):
                env.reset(options={"reset_mask": over})
    assert ours._step.num_graphs == 1
    assert ours._restart.num_graphs == (mode == AutoresetMode.DISABLED)


@pytest.mark.compiled
def test_what_the_modes_run_is_compiled_to_the_same():
    """The programs of all three, compiled as one; each follows the other where it reads what that wrote."""
    stepping = TorchVectorEnv(Walk(), NUM, backend="eager")._stepping

    def all_of_it(state, actions, index):
        here, *rows = owned(stepping.last_step, [], state, actions)
        there, *others = owned(stepping.idle_step, [], state, actions)
        plain, *more = stepping.plain_step([], state, actions)
        begun_here = stepping.begin_here(tree.map(torch.clone, here), [], index)
        begun_there = stepping.begin_instead(tree.map(torch.clone, there), state, [], index)
        restarted = stepping.restart_some([], plain, plain.ended)
        return here, rows, there, others, plain, more, begun_here, begun_there, restarted

    program = jit.jit(all_of_it, backend="inductor")
    state, ends = stepping.begin([], random.split(random.key(3), NUM)), [0, 0]
    for t in range(30):
        arguments = state, torch.tensor([0, 1, t % 2]), torch.tensor([t % NUM])
        expected = all_of_it(*arguments)
        found = program(*arguments)
        for a, b in zip(tree.leaves(found), tree.leaves(expected), strict=True):
            assert a.dtype == b.dtype
            assert torch.allclose(a.float(), b.float(), atol=1e-5)
        # What is handed out may be written to. In place of observations, those after the beginnings are.
        for (_, *figures), infos in (found[1], found[3], found[5]):
            addresses = [x.data_ptr() for x in tree.leaves((figures, infos))]
            assert len(set(addresses)) == len(addresses)
        # In turns what has ended begins at once, or is stepped on.
        _, _, terminated, truncated = expected[5][0]
        state = expected[8] if t % 3 else expected[2]
        ends = [ends[0] + int(terminated.sum()), ends[1] + int(truncated.sum())]
    assert min(ends) > 1
    assert program.num_graphs == 1


def test_a_step_of_an_ended_environment_in_next_step_mode_statistics_begin_anew():
    env = TorchVectorEnv(Walk(max_episode_steps=1), NUM, backend="eager", autoreset_mode="NextStep")
    env.reset(seed=0)
    actions = torch.zeros(NUM, dtype=torch.int64)
    assert env.step(actions)[4]["episode_length"].tolist() == [1] * NUM
    _, reward, _, truncated, infos = env.step(actions)
    assert infos["episode_length"].tolist() == [0] * NUM
    assert reward.tolist() == [0.0] * NUM
    assert not truncated.any()
    assert env.step(actions)[3].all()


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_chunk_of_steps_is_the_same_steps(mode, backend):
    chunked, single = (
        TorchVectorEnv(Walk(), NUM, backend=b, autoreset_mode=mode) for b in (backend, "eager")
    )
    chunked.reset(seed=1)
    single.reset(seed=1)
    for key in random.split(random.key(0), 3):
        actions = random.randint(key, (5, NUM), 0, 2)
        together = chunked.unroll(actions)
        alone = [single.step(row) for row in actions]
        for a, b in zip(tree.leaves(together), tree.leaves(tree.stack(alone)), strict=True):
            assert torch.allclose(a.float(), b.float(), atol=1e-5)
    with pytest.raises(ValueError, match=r"Walk\.unroll: actions must have shape \(3,\)"):
        chunked.unroll(torch.zeros(5, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"actions must have shape \(T, 3, ...\) with T at least 1"):
        chunked.unroll(torch.zeros(0, 3, dtype=torch.int64))


def test_a_chunk_needs_resets_of_its_own():
    env = TorchVectorEnv(Walk(), NUM, backend="eager", autoreset_mode="Disabled")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="autoreset_mode must be SameStep or NextStep"):
        env.unroll(torch.zeros(2, NUM, dtype=torch.int64))


@pytest.mark.parametrize(
    ("mode", "backend"),
    [
        (AutoresetMode.SAME_STEP, "aot_eager"),
        (AutoresetMode.NEXT_STEP, "aot_eager"),
        pytest.param(AutoresetMode.SAME_STEP, "inductor", marks=pytest.mark.compiled),
    ],
)
def test_beginning_the_episodes_that_are_needed_equals_beginning_all_and_taking_some(mode, backend):
    """`step` asks which ended and begins those, some at a time; `unroll` begins all of them."""
    num = 3 * EPISODES_AT_A_TIME + 1
    by_step, at_once = (
        TorchVectorEnv(CartPole(max_episode_steps=5), num, backend=name, autoreset_mode=mode)
        for name in (backend, "eager")  # a chunk is traced in the test above
    )
    assert torch.equal(by_step.reset(seed=3)[0], at_once.reset(seed=3)[0])
    actions = torch.stack([(torch.arange(num) * 7 + t) % 3 % 2 for t in range(12)])
    rows = [by_step.step(row) for row in actions]
    ended = torch.stack([row[2] | row[3] for row in rows]).sum(dim=1)
    assert 0 in ended.tolist()
    assert int(ended.max()) > num // EPISODES_AT_A_TIME  # more than begin in one call
    for a, b in zip(tree.leaves(tree.stack(rows)), tree.leaves(at_once.unroll(actions)), strict=True):
        assert torch.allclose(a.float(), b.float(), atol=1e-5)
    for a, b in zip(tree.leaves(by_step._state), tree.leaves(at_once._state), strict=True):
        assert torch.allclose(a.float(), b.float(), atol=1e-5)
    assert by_step._begin.num_graphs == 1
