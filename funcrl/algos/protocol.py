"""What an algorithm is: a module with the names below, each a pure function of pytrees.

Nothing in an algorithm mentions seeds. `vmap` puts the lane axis in front of every tensor, so shapes here
are those of one lane: T steps of a window, N environments, B rows of a batch.

Floats of a `Config` are numbers where a person writes them and 0-d tensors inside a `State`, so that they may
differ between lanes; integers, names and modules belong to the program. Floats are checked when a `Config`
is made, spaces by `init`, shapes by `update` while Python runs; values inside a program are not, a lane
that turns non-finite is named at the end of training.

The docstrings of an algorithm's own functions say what is its own: its equations, and where it departs from
what stands here.

Memory
------
An agent that remembers what it has seen within an episode has a carry: a pytree of tensors, one row an episode, that
lives outside of the agent's state. Its algorithm has two verbs more, and its `act` and `greedy` one argument more:

    carry = initial_carry(state)                    where an episode begins
    carry = remember(state, obs, carry)             once an observation has been seen, each exactly once
    action, extras = act(state, obs, key, carry)    with what is remembered of it too

So acting by hand is this, and with N environments the same, once the first carry has been given an axis `[N]`:

    carry = ppo.initial_carry(agent)
    while not over:
        carry = ppo.remember(agent, obs, carry)
        obs, reward, over = step(ppo.greedy(agent, obs, carry))

Nobody else has to write it: what trains, evaluates and films goes through `train.acting`, which gives algorithms
without these verbs the carry `()`. There, the environments of a run on the device and their carries are kept in the
run's own `Carry`, are saved with it and go on with it; on the host, environments begin anew when a run goes on, and
so do carries. Where an episode ends, by termination or a time limit, the next begins with `initial_carry`. Where a
vector environment spends a step on beginning an episode, nothing is remembered of it.

To learn, an agent finds in each window what was remembered before each step as `extras["carry"]`, `[T, N, ...]`: where
an episode begins, `initial_carry`. From there it can go through a stretch of steps again with its parameters of now,
see `policy_gradient.recurrence`. Whether an agent remembers may depend on its settings: one that does not has the
carry `()`, and then neither needs the argument.

Noise that goes on from step to step while an agent explores is kept like a carry, in the same places. Its algorithm has
`initial_noise(state)` and `next_noise(state, noise, key)`, each step once before it acts, and `noise` as a further argument of
`act` alone: what is best does not depend on it.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

LOOPS = ("on_policy", "off_policy", "online")
"""What trains an algorithm: windows of its own experience, prepared and cut into minibatches; a buffer of
replayed experience; or each step as it comes."""


class Algorithm(Protocol):
    """The names of an algorithm."""

    LOOP: str
    """which loop trains it, one of `LOOPS`"""
    METRICS: tuple[str, ...]
    """names of the figures in `State.metrics`"""
    LEARNT: tuple[str, ...]
    """fields of `State` that hold what has been learnt: parameters, tables, counts, models. Training that
    starts from agents which exist keeps these, and begins everything else anew: settings, step counters and
    with them schedules, moments of the optimiser, memories of steps, keys."""
    Config: type
    """Settings, a frozen dataclass that is a pytree. On-policy and off-policy ones have `num_envs` N and
    `window_length` T; one that learns online and has no `num_envs` has a single environment, and sees it
    without the axis N."""
    State: type
    """An agent, likewise; at least with `config` and `metrics`, a dict of 0-d figures of the last update,
    NaN before the first, with the same names from `init` on."""

    # Beside these, where it is not what is usual: DEFAULT_STEPS, environment steps of a lane in a run
    # where nothing else is said (500,000), and SHARES_OF_THE_RUN, by name the settings in environment
    # steps for which 0 stands for this share of a run ({"anneal_steps": 1.0}).

    def init(self, key: Tensor, config: Any, env: Any) -> Any:
        """Make an agent that has learnt nothing.

        Args:
            key: `[2]` int32; what is random is drawn from it, and everything lives on its device.
            config: Settings; its floats may be numbers or 0-d tensors.
            env: Anything with `observation_space` and `action_space`; nothing else of it is read.

        Returns:
            A `State`.

        Raises:
            ValueError: When a space is not supported, or a network of the user's own has the wrong output.
        """

    def act(self, state: Any, obs: Any, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Choose actions as it does while it learns.

        Args:
            state: The agent.
            obs: `[...]` one observation, or `[B, ...]` several; a bandit does not look at it.
            key: `[2]` int32.

        Returns:
            One action of the space, or B of them, int64 where they are numbered, each drawn by itself; and by
            name what learning needs to know of the choice, `[]` or `[B]`.
        """

    def greedy(self, state: Any, obs: Any) -> Tensor:
        """Return the actions that it thinks best, the first of several best ones.

        Args:
            state: The agent.
            obs: `[...]` one observation, or `[B, ...]` several.

        Returns:
            One action of the space, or B of them.
        """

    # Those that can remember have these two as well, and `carry` as a further argument, `()` by default, of `act` and
    # `greedy`: `initial_carry(state) -> carry`, of one episode, and `remember(state, obs, carry) -> carry`, of one or of
    # several.

    def prepare(self, state: Any, window: Any) -> Any:
        """Turn a window of experience into rows to learn from; on-policy algorithms only.

        Args:
            state: The agent that collected the window.
            window: `Transition` `[T, N, ...]`, with what `act` returned in `extras`.

        Returns:
            A struct of rows, `[T · N, ...]`, or `[N, T, ...]` where a row is what one environment went through;
            shuffled and cut into minibatches where the settings have `num_epochs` and `num_minibatches`, else one
            batch.
        """

    # Off-policy ones whose updates are not all alike may have `parts(config)`: functions like `update`, each with the number
    # d for which every d-th update has it, from an agent's first on. One after the other they are `update`, which chooses by
    # `state.step` what it keeps; the loop, which counts, calls those that are due and computes nothing else.

    # On-policy ones may have `observe(state, window) -> state` too, what the agent learns of a window beside what
    # its batches hold (moments of observations); it follows the last update on the window, where `observes(state)`
    # says that there is anything.

    def update(self, state: Any, batch: Any) -> Any:
        """Take one step of learning.

        Args:
            state: The agent before; not changed.
            batch: On-policy, `[B]` rows of what `prepare` returned. Off-policy, a `ReplayBatch` of `[B]` rows, B
                as the settings say. Online, a `Transition` of one step, `[]`, or `[N]` where the settings
                have `num_envs`.

        Returns:
            The agent after, of the same structure, shapes and dtypes.

        Raises:
            ValueError: When the batch has other shapes than these.
        """
