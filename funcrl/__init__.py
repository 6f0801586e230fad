"""Deep reinforcement learning as pure functions of pytrees: `update(state, batch) -> state`."""

import gymnasium

__version__ = "0.1.0"

gymnasium.register(
    id="funcrl/CartPole-v1",
    vector_entry_point="funcrl.envs.vector:make_vector",
    kwargs={"name": "CartPole-v1"},
)
