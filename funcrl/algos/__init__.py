"""Algorithms: one paper a file, each a module with the same few pure functions, see `protocol`."""

from types import ModuleType

from funcrl.algos.bandits import (
    boltzmann,
    decaying_epsilon,
    epsilon_greedy,
    gradient_bandit,
    linucb,
    neural_epsilon_greedy,
    neural_thompson,
    optimistic,
    thompson_beta,
    thompson_gaussian,
    ucb,
)
from funcrl.algos.deep_q import c51, double_dqn, dqn, dueling_dqn, pqn, qr_dqn, rainbow
from funcrl.algos.off_policy_actor_critic import ddpg, discrete_sac, sac, td3, tqc
from funcrl.algos.policy_gradient import a2c, actor_critic, impala, ppo, reinforce
from funcrl.algos.tabular import (
    double_q_learning,
    dyna_q,
    expected_sarsa,
    n_step_sarsa,
    q_learning,
    sarsa,
)

_BANDITS = (
    boltzmann,
    decaying_epsilon,
    epsilon_greedy,
    gradient_bandit,
    linucb,
    neural_epsilon_greedy,
    neural_thompson,
    optimistic,
    thompson_beta,
    thompson_gaussian,
    ucb,
)
_DEEP_Q = (c51, double_dqn, dqn, dueling_dqn, pqn, qr_dqn, rainbow)
_OFF_POLICY_ACTOR_CRITIC = (ddpg, discrete_sac, sac, td3, tqc)
_POLICY_GRADIENT = (a2c, actor_critic, impala, ppo, reinforce)
_TABULAR = (double_q_learning, dyna_q, expected_sarsa, n_step_sarsa, q_learning, sarsa)

REGISTRY: dict[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (*_BANDITS, *_DEEP_Q, *_OFF_POLICY_ACTOR_CRITIC, *_POLICY_GRADIENT, *_TABULAR)
}
"""Algorithms by name; a new one needs one line here and inherits the command line and the tests."""

__all__ = [
    "REGISTRY",
    "a2c",
    "actor_critic",
    "boltzmann",
    "c51",
    "ddpg",
    "decaying_epsilon",
    "discrete_sac",
    "double_dqn",
    "double_q_learning",
    "dqn",
    "dueling_dqn",
    "dyna_q",
    "epsilon_greedy",
    "expected_sarsa",
    "gradient_bandit",
    "impala",
    "linucb",
    "n_step_sarsa",
    "neural_epsilon_greedy",
    "neural_thompson",
    "optimistic",
    "ppo",
    "pqn",
    "q_learning",
    "qr_dqn",
    "rainbow",
    "reinforce",
    "sac",
    "sarsa",
    "td3",
    "thompson_beta",
    "thompson_gaussian",
    "tqc",
    "ucb",
]
