"""Rainbow: C51 with double targets, dueling and noisy networks, prioritised and n-step replay.

Hessel et al. 2018, "Rainbow: combining improvements in deep reinforcement learning", arXiv 1710.02298.

    a* = argmax_a' Q(s', a'; θ, ε'')                              double, van Hasselt et al. 2016, (4)
    m = Φ mass p_j(s', a*; θ⁻, ε') at Σ_{k<n} γᵏ r_{t+k} + γⁿ z_j      n-step C51, Bellemare et al. 2017
    L(θ) = -Σ_i m_i log p_i(s, a; θ, ε)                             drawn in proportion to KL(m ‖ p)^α
    p_i(s, a; θ) = softmax_i(V_i(s) + A_i(s, a) - (1 / |A|) Σ_a' A_i(s, a'))  dueling, Wang et al. 2016
    θ with noise ε: μ + σ ⊙ ε                                 noisy networks, Fortunato et al. 2018, (9)

Each part is what its own file says; here they are put together. The three noises are independent,
as in the paper on noisy networks (there, section 3.1). The noise is the only exploration, ε-greedy
being left with ε = 0, and `greedy` acts without it.

Departures from the paper: perceptrons for observations that are no images, and settings and atoms
for classic control, as in `c51`.
"""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from torch import Tensor, nn

from funcrl import nets
from funcrl.algos.deep_q import agent, c51
from funcrl.algos.deep_q.agent import LEARNT, METRICS, Errors
from funcrl.algos.deep_q.settings import SHARES_OF_THE_RUN, Settings
from funcrl.core import ReplayBatch, checks, random, tree
from funcrl.nets import noisy

__all__ = [
    "LEARNT",
    "LOOP",
    "METRICS",
    "SHARES_OF_THE_RUN",
    "Config",
    "State",
    "act",
    "greedy",
    "init",
    "update",
]

LOOP = "off_policy"


@tree.struct
class Config(Settings):
    """Settings of Rainbow."""

    epsilon: float = 0.0
    """ε of the ε-greedy policy, in [0, 1], beside the noise"""
    initial_epsilon: float = 0.0
    """ε at the beginning"""
    priority_exponent: float = 0.5
    """α of prioritised replay, in [0, 1]: 0 draws uniformly, 1 in proportion to the divergence"""
    noise_scale: float = 0.5
    """σ₀: size of the noise at the beginning"""
    v_min: float = -100.0
    """V_MIN: the smallest return that an atom stands for"""
    v_max: float = 100.0
    """V_MAX: the largest"""
    num_atoms: int = tree.static(default=51)
    """N: atoms of each distribution, at least 2"""
    n_step: int = tree.static(default=3)
    """n: steps whose rewards a target adds up before it bootstraps"""
    replay: str = tree.static(default="prioritised")
    """uniform or prioritised"""

    def __post_init__(self) -> None:
        super().__post_init__()
        hold = "hold two widths at least, the last that of the two streams"
        checks.require(
            self.network is not None or len(self.hidden) >= 2, "rainbow.Config", "hidden", hold, self.hidden
        )
        c51.check_atoms("rainbow.Config", self)
        checks.settings(self, "rainbow.Config", not_negative=("noise_scale",))


@tree.struct
class State(agent.State):
    """An agent with noisy networks."""

    key: Tensor
    """`[2]` int32, from which the noise of every gradient step is drawn"""


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent.

    A network of the settings' own returns A · N numbers, those of the first action first; its linear layers,
    of which it has one at least, become noisy.
    """
    k_params, k_noise = random.split(key, 2)
    plain = agent.begin("rainbow.init", k_params, config, env, config.num_atoms, _network)
    state = State(**vars(plain), key=k_noise)
    wide = noisy.widen(plain.network, plain.params, plain.config.noise_scale)
    return agent.with_params("rainbow.init", state, wide)


def act(state: State, obs: Tensor, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the best action of a network with noise, the same noise for all observations."""
    k_noise, k_action = random.split(key, 2)
    params = noisy.perturb(state.params, noisy.noise(state.params, k_noise))
    return agent.explore(state, c51.predict(state, params, obs)[1], obs, k_action)


def greedy(state: State, obs: Tensor) -> Tensor:
    """Return the best action of the network without noise."""
    return c51.predict(state, noisy.means(state.params), obs)[1].argmax(dim=-1)


def update(state: State, batch: ReplayBatch) -> State:
    """Take one gradient step on the cross-entropy."""
    agent.check_batch("rainbow.update", state, batch)
    atoms = c51.support(state.config)
    noise = noisy.noise(state.params, random.fold_in(state.key, state.step), (3,))
    _, choice = c51.predict(state, noisy.perturb(state.params, noise[1]), batch.next_obs)
    believed, _ = c51.predict(state, noisy.perturb(state.target_params, noise[2]), batch.next_obs)
    goal = c51.target(batch.reward, batch.discount, believed, choice, atoms)

    def of(params: nets.Params, network: nets.Network) -> Errors:
        logits = c51.logits(tree.replace(state, network=network), noisy.perturb(params, noise[0]), batch.obs)
        return c51.errors(logits, batch.action, goal, atoms)

    return agent.descend(state, batch, of)


def _network(config: Config, space: spaces.Space[Any], size: int) -> nn.Module:
    return nets.dueling(
        space,
        config.channels,
        config.hidden,
        size // config.num_atoms,
        stride=config.stride,
        activation=config.activation,
        size=config.num_atoms,
    )
