"""What agents that learn a policy share: a state, acting, the value of a state, descending.

An algorithm's own file says what its loss is, what it makes of a window, and nothing else. No file of an
algorithm mentions a kind of action or of observation: `policies.for_space` and the networks know them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from funcrl import nets, ops, optim, policies
from funcrl.algos import beginning
from funcrl.algos.policy_gradient import networks, normalisation, recurrence
from funcrl.core import Transition, checks, masks, random, tree
from funcrl.optim import descending

LEARNT = ("params", "known")

Params = dict[str, nets.Params]
"""`actor` and `critic`, in `head` what the policy has beside the actor's outputs, and `recurrent` in those that remember; θ"""

Figures = dict[str, Tensor]
"""0-d, by name"""


@tree.struct
class State:
    """An agent with a policy and an estimate of its value."""

    params: Params
    """θ"""
    optimizer: Any
    """its state"""
    step: Tensor
    """`[]` int32, number of gradient steps so far"""
    config: Any
    """the algorithm's settings; their floats are 0-d tensors here"""
    metrics: Figures
    """0-d figures of the last update; NaN before the first"""
    known: normalisation.Normalizer | tuple[()]
    """moments of observations and rewards so far; `()` where nothing is normalised"""
    noise_key: Tensor | tuple[()]
    """`[2]` int32, from which each window's noise is drawn where that is smooth; `()` otherwise"""
    actor: nets.Network = tree.static()
    critic: nets.Network = tree.static()
    head: policies.Head = tree.static()
    """what makes a policy of the actor's outputs"""
    recurrent: nets.Recurrent | None = tree.static()
    """what remembers, in front of actor and critic; None: they see observations themselves"""
    rates: descending.Rates = tree.static()
    """which numbers learn at another rate, or not at all"""


S = TypeVar("S", bound=State)


def begin(
    function: str,
    key: Tensor,
    config: Any,
    env: object,
    metrics: tuple[str, ...],
    optimizer: Callable[[Any, Any], optim.Optimizer],
) -> State:
    """Make an agent that has learnt nothing.

    Args:
        function: Who complains, `"ppo.init"`.
        key: `[2]` int32.
        config: `Settings`; floats may be numbers or 0-d tensors.
        env: Anything with `observation_space` and `action_space`.
        metrics: Names of its figures.
        optimizer: From settings and a learning rate to what will descend.

    Raises:
        ValueError: When a space is not supported, or an own network has the wrong output.
    """
    space = beginning.observations(function, env)
    head = networks.head(function, config, env.action_space)  # type: ignore[attr-defined]
    recurrent = recurrence.network(config, space)
    seen = space if recurrent is None else recurrence.space(config)
    actor = nets.own(function, "config.actor", config.actor, seen)
    critic = nets.own(function, "config.critic", config.critic, seen)
    if actor is None:
        actor = networks.actor(config, seen, head.num_outputs)
    if critic is None:
        critic = networks.network(config, seen, config.hidden, 1, 1.0)

    k_actor, k_critic = random.split(key, 2)
    params = {"actor": nets.begin_whole(actor, k_actor), "critic": nets.begin_whole(critic, k_critic)}
    nets.check_output(function, "config.actor", actor, params["actor"], seen, head.num_outputs)
    nets.check_output(function, "config.critic", critic, params["critic"], seen, 1)
    params["head"] = {
        name: x + config.initial_log_std if name.endswith("log_std") else x
        for name, x in head.parameters(key.device).items()
    }
    if recurrent is not None:
        params["recurrent"] = nets.init(recurrent, random.fold_in(key, 2))
    rates = descending.rates(
        function, config, params, nets.without_gradient({"actor": actor, "critic": critic})
    )
    config = beginning.settings(config, key)
    return State(
        params=params,
        optimizer=descending.begin(optimizer(config, config.learning_rate), params, rates),
        step=torch.zeros((), dtype=torch.int32, device=key.device),
        config=config,
        metrics=beginning.no_metrics(metrics, key),
        known=normalisation.begin(config, space, key.device) if _normalizes(config) else (),
        noise_key=random.fold_in(key, 3) if config.action_noise == "smooth" else (),
        actor=actor,
        critic=critic,
        head=head,
        recurrent=recurrent,
        rates=rates,
    )


def initial_carry(state: State) -> Any:
    """Return what is remembered where an episode begins, `[H]` each; `()` in an agent that does not remember."""
    return () if state.recurrent is None else state.recurrent.initial_carry(state.step.device)


def remember(state: State, obs: Any, carry: Any) -> Any:
    """Return what is remembered once an observation has been seen, or several in as many episodes."""
    return recall(state, state.params, obs, carry)


def recall(state: State, params: Params, obs: Any, carry: Any, begins: Tensor | None = None) -> Any:
    """Return what is remembered after observations, see `nets.recurrent`; `()` in an agent that does not remember."""
    if state.recurrent is None:
        return ()
    return nets.apply(state.recurrent, params["recurrent"], _normalised(state, obs), carry, begins)


def policy(state: State, params: Params, obs: Any, carry: Any = ()) -> policies.Distribution:
    """Return π_θ(· | s) for one observation s, or for several; of valid actions alone, see `core.masks`.

    In an agent that remembers, s is what it remembers once it has seen the observation: `carry`.
    """
    made: Any = state.head.distribution(
        nets.apply(state.actor, params["actor"], _seen(state, obs, carry)), params["head"]
    )
    valid = masks.of(obs)
    return made if valid is None else made.masked(valid)  # type: ignore[no-any-return]


def value(state: State, params: Params, obs: Any, carry: Any = ()) -> Tensor:
    """Return V_θ(s), `[...]`, for one observation s, or for several; see `policy`."""
    return nets.apply(state.critic, params["critic"], _seen(state, obs, carry)).squeeze(-1)  # type: ignore[no-any-return]


def learner(state: S) -> S:
    """Return the agent as it learns from a batch: its networks as they train, with new keys for dropout."""
    params = {name: nets.with_new_keys(network, state.params[name]) for name, network in _own(state).items()}
    learning = {name: nets.learning(network) for name, network in _own(state).items()}
    return tree.replace(state, params=state.params | params, **learning)


def observed(learner: State, batch: Any) -> Params:
    """Return what actor and critic keep beside their parameters once they have learnt from a batch, see `nets.observed`."""
    own = _own(learner)
    if not own:
        return {}
    memory = getattr(batch, "carry", ()), getattr(batch, "begins", None)
    seen = _seen(learner, batch.obs, recall(learner, learner.params, batch.obs, *memory))
    return {name: nets.observed(network, learner.params[name], seen) for name, network in own.items()}


def _own(state: State) -> dict[str, nets.Network]:
    """Return the networks that may be a person's own, those that are not the same while they train."""
    both = {"actor": state.actor, "critic": state.critic}
    return {name: network for name, network in both.items() if isinstance(network, nets.Pure)}


def act(state: State, obs: Any, key: Tensor, carry: Any = ()) -> tuple[Any, dict[str, Tensor]]:
    """Draw an action from the policy."""
    return policy(state, state.params, obs, carry).sample(_of_noise(state, key)), {}


def act_and_tell(state: State, obs: Any, key: Tensor, carry: Any = ()) -> tuple[Any, dict[str, Tensor]]:
    """Draw an action from the policy, for those who still learn from it when the policy is another one.

    Its extras are `log_prob`, `[]` or `[B]`.
    """
    now = policy(state, state.params, obs, carry)
    action = now.sample(_of_noise(state, key))
    return action, {"log_prob": now.log_prob(action)}


def greedy(state: State, obs: Any, carry: Any = ()) -> Any:
    """Return the most probable action."""
    return policy(state, state.params, obs, carry).mode()


def earned(state: State, rewards: Tensor) -> Tensor:
    """Return rewards `[...]` as the agent learns from them."""
    return rewards if isinstance(state.known, tuple) else normalisation.reward(state.known, rewards)


def observes(state: State) -> bool:
    """Return whether there is anything for `observe` to do."""
    return not isinstance(state.known, tuple)


def observe(state: S, window: Transition) -> S:
    """Return the agent that knows the moments of a window too, see `normalisation`; after it has learnt from it."""
    if isinstance(state.known, tuple):
        return state
    return tree.replace(state, known=normalisation.observe(state.known, window, state.config.gamma))


def advantages(state: State, window: Transition, lam: Tensor) -> tuple[Tensor, Tensor]:
    """Return the agent's values, and advantages by them, see `ops.gae`.

    Args:
        state: The agent that collected the window.
        window: `[T, N, ...]`.
        lam: `[]` λ.

    Returns:
        `[T, N]` V(s) and `[T, N]` Â; their sum is the λ-return.
    """
    carry = remember(state, window.obs, window.extras.get("carry", ()))
    now = value(state, state.params, window.obs, carry)
    # What an episode ended with was seen after all that is remembered of it.
    next_carry = remember(state, window.next_obs, carry)
    advantage = ops.gae(
        earned(state, window.reward),
        window.terminated,
        window.truncated,
        now,
        value(state, state.params, window.next_obs, next_carry),
        state.config.gamma,
        lam,
    )
    return now, advantage


def _of_noise(state: State, key: Tensor) -> Tensor:
    """Return the key of an action: that of the step, or where noise is smooth that of all steps until the next update."""
    return key if isinstance(state.noise_key, tuple) else random.fold_in(state.noise_key, state.step)


def _normalizes(config: Any) -> bool:
    names = ("normalize_observation", "normalize_reward")
    return any(getattr(config, name, False) for name in names)


def _normalised(state: State, obs: Any) -> Any:
    return obs if isinstance(state.known, tuple) else normalisation.observation(state.known, obs)


def _seen(state: State, obs: Any, carry: Any) -> Any:
    """Return what actor and critic see: observations, or what is remembered of them."""
    if state.recurrent is None:
        instead = "Leave it out, or write recurrent_cell='gru'."
        checks.require(
            carry == (), "act", "carry", "be () in an agent that does not remember", carry, instead
        )
        return _normalised(state, obs)
    state.recurrent.check_carry("act", carry, state.recurrent.leading(obs))
    return carry[0]
