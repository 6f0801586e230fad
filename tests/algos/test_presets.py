"""Settings of reference results."""

import pytest

from funcrl.algos import REGISTRY
from funcrl.algos.presets import PRESETS, preset

EVERY = [(a, name, env) for a, named in PRESETS.items() for name, of in named.items() for env in of]


@pytest.mark.parametrize(("algorithm", "name", "env"), EVERY)
def test_every_preset_is_settings_of_its_algorithm(algorithm, name, env):
    chosen = preset(algorithm, name, env)
    assert isinstance(chosen.config, REGISTRY[algorithm].Config)
    config = chosen.config
    assert chosen.num_steps % config.num_envs == 0
    _, settings = PRESETS[algorithm][name][env]
    assert {k: getattr(config, k) for k in settings} == settings


def test_minibatches_of_ppo_have_as_many_rows_as_the_zoos():
    for env, rows in (("CartPole-v1", 256), ("Acrobot-v1", 64), ("Pendulum-v1", 64)):
        config = preset("ppo", "zoo", env).config
        assert config.num_envs * config.window_length == rows * config.num_minibatches
