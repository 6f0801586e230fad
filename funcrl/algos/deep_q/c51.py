"""C51: learn the distribution of the return on fixed atoms, act by its mean.

Bellemare, Dabney & Munos 2017, "A distributional perspective on reinforcement learning", arXiv 1707.06887.

    z_i = V_MIN + i Δz,   Δz = (V_MAX - V_MIN) / (N - 1),   p_i(s, a) = softmax_i θ(s, a)      (section 4)
    Q(s, a) = Σ_i z_i p_i(s, a),   a* = argmax_a' Q(s', a'; θ⁻)                            (algorithm 1)
    m = Φ T̂ Z_θ⁻(s, a): mass p_j(s', a*; θ⁻) at r + γ z_j, moved onto the atoms                      (7)
    L(θ) = -Σ_i m_i log p_i(s, a; θ)                                                       (algorithm 1)

Prioritised replay draws by KL(m ‖ p), as Rainbow does (Hessel et al. 2018, arXiv 1710.02298): the
loss less the entropy of m, which no learning can remove.

Departures from the paper, those of the reference for classic control (CleanRL): perceptrons for
observations that are no images, and atoms over the returns of tasks with rewards of ±1, which lie
within 1 / (1 - γ) = 100. Returns beyond `v_min` and `v_max` are clipped: set them for your task.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from funcrl import nets, ops
from funcrl.algos.deep_q import agent
from funcrl.algos.deep_q.agent import LEARNT, METRICS, Errors, State
from funcrl.algos.deep_q.settings import SHARES_OF_THE_RUN, Settings
from funcrl.core import ReplayBatch, checks, masks, tree

__all__ = [
    "LEARNT",
    "LOOP",
    "METRICS",
    "SHARES_OF_THE_RUN",
    "Config",
    "State",
    "act",
    "check_atoms",
    "errors",
    "greedy",
    "init",
    "logits",
    "predict",
    "support",
    "target",
    "update",
]

LOOP = "off_policy"


@tree.struct
class Config(Settings):
    """Settings of C51."""

    v_min: float = -100.0
    """V_MIN: the smallest return that an atom stands for"""
    v_max: float = 100.0
    """V_MAX: the largest"""
    num_atoms: int = tree.static(default=51)
    """N: atoms of each distribution, at least 2"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_atoms("c51.Config", self)


def check_atoms(name: str, config: Any) -> None:
    """Check the fields of settings that say where the atoms lie: `v_min`, `v_max`, `num_atoms`.

    Args:
        name: Who complains, `"c51.Config"`.
        config: The settings.

    Raises:
        ValueError: When one is out of range.
    """
    checks.integer(name, "num_atoms", config.num_atoms, 2)
    for limit in ("v_min", "v_max"):
        checks.number(name, limit, getattr(config, limit), -math.inf, math.inf)
    if isinstance(config.v_min, Real) and isinstance(config.v_max, Real):
        hold = f"be greater than v_min = {config.v_min:g}"
        checks.require(config.v_max > config.v_min, name, "v_max", hold, config.v_max)


def support(config: Any) -> Tensor:
    """Return the atoms z, `[N]`, of settings whose floats are 0-d tensors.

    >>> support(Config(v_min=torch.tensor(-1.0), v_max=torch.tensor(1.0), num_atoms=3))
    tensor([-1.,  0.,  1.])
    """
    low, high = config.v_min, config.v_max
    unit = torch.linspace(0.0, 1.0, config.num_atoms, dtype=torch.float32, device=low.device)
    return low + (high - low) * unit  # type: ignore[no-any-return]


def target(
    reward: Tensor, discount: Tensor, next_probabilities: Tensor, next_values: Tensor, atoms: Tensor
) -> Tensor:
    """(7): m, the distribution of r + γ Z(s', a*) moved onto the atoms.

    Args:
        reward: `[B]`.
        discount: `[B]` γ, and 0 where the episode terminated.
        next_probabilities: `[B, A, N]` p(s', ·; θ⁻).
        next_values: `[B, A]` by which a* is chosen, Q(s', ·; θ⁻).
        atoms: `[N]` z.

    Returns:
        `[B, N]`.

    >>> one, half = torch.ones(1), torch.tensor([0.5])  # of two actions, the better one is worth 2 for certain
    >>> p, q = torch.tensor([[[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]]), torch.tensor([[2.0, 0.0]])
    >>> target(-one / 2, half, p, q, torch.tensor([0.0, 1.0, 2.0]))
    tensor([[0.5000, 0.5000, 0.0000]])
    """
    chosen = ops.of_action(next_probabilities, next_values.argmax(dim=-1))
    values = reward.unsqueeze(-1) + discount.unsqueeze(-1) * atoms
    return ops.categorical_projection(values, chosen, atoms)


def errors(numbers: Tensor, action: Tensor, goal: Tensor, atoms: Tensor) -> Errors:
    """Algorithm 1: the cross-entropy -Σ_i m_i log p_i(s, a; θ) of each row, and KL(m ‖ p).

    Args:
        numbers: `[B, A, N]` θ(s, ·).
        action: `[B]` int64.
        goal: `[B, N]` m.
        atoms: `[N]` z.
    """
    log_p = torch.log_softmax(ops.of_action(numbers, action), dim=-1)
    # An atom that a network rules out (-inf) costs nothing where the target rules it out too.
    cross_entropy = -(goal * torch.where(goal > 0, log_p, 0.0)).sum(dim=-1)
    entropy = -torch.xlogy(goal, goal).sum(dim=-1)
    # At least 0 but for rounding, which a priority must not see.
    kl = (cross_entropy - entropy).clamp(min=0.0)
    return Errors(loss=cross_entropy, td_error=kl, q=(log_p.exp() * atoms).sum(dim=-1))


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent.

    A network of the settings' own returns A · N numbers, those of the first action first.
    """
    return agent.begin("c51.init", key, config, env, outputs=config.num_atoms)


def act(state: State, obs: Tensor, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw an action from the behaviour policy over the means of the distributions."""
    return agent.explore(state, predict(state, state.params, obs)[1], obs, key)


def greedy(state: State, obs: Tensor) -> Tensor:
    """Return an action whose distribution has the best mean."""
    return predict(state, state.params, obs)[1].argmax(dim=-1)


def update(state: State, batch: ReplayBatch) -> State:
    """Take one gradient step on the cross-entropy."""
    agent.check_batch("c51.update", state, batch)
    atoms = support(state.config)
    probabilities, values = predict(state, state.target_params, batch.next_obs)
    goal = target(batch.reward, batch.discount, probabilities, values, atoms)

    def of(params: nets.Params, network: nets.Network) -> Errors:
        learner = tree.replace(state, network=network)
        return errors(logits(learner, params, batch.obs), batch.action, goal, atoms)

    return agent.descend(state, batch, of)


def logits(state: State, params: nets.Params, obs: Tensor) -> Tensor:
    """Return θ(s, ·), `[..., A, N]`, for observations `[..., *obs]`."""
    numbers: Tensor = nets.apply(state.network, params, obs)
    return numbers.reshape(*numbers.shape[:-1], -1, state.config.num_atoms)


def predict(state: State, params: nets.Params, obs: Tensor) -> tuple[Tensor, Tensor]:
    """Return p(s, ·), `[..., A, N]`, and its means Q(s, ·), `[..., A]`, -inf for actions that are not valid."""
    probabilities = torch.softmax(logits(state, params, obs), dim=-1)
    means = (probabilities * support(state.config)).sum(dim=-1)
    return probabilities, masks.values(means, obs)
