"""Small processes, and what planning means for them, written naively in numpy."""

import itertools

import numpy as np
from hypothesis import strategies as st

from funcrl.algos.planning import Mdp


@st.composite
def processes(draw, termination=(0.0, 0.2, 1.0)):
    """Random processes of up to 4 states and 3 actions: certain or not, with or without ends."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_states, num_actions = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    shape = (num_states, num_actions, num_states)
    transition = rng.dirichlet(np.full(num_states, 0.5), shape[:2])
    if draw(st.booleans()):
        transition = np.eye(num_states)[rng.integers(num_states, size=shape[:2])]
    reward = rng.normal(size=shape)
    if draw(st.booleans()):
        reward = rng.integers(-1, 2, size=shape).astype(float)  # many ties
    terminated = rng.random(shape) * draw(st.sampled_from(termination))
    if draw(st.booleans()):  # an absorbing state, which may pay
        transition[0] = np.eye(num_states)[0]
        reward[0] = draw(st.sampled_from([0.0, 1.0]))
    initial = rng.dirichlet(np.ones(num_states))
    return transition, reward, terminated, initial


def mdp_of(process):
    return Mdp.from_tensors(*process)


def naive_action_values(process, values, gamma):
    transition, reward, terminated, _ = process
    num_states, num_actions, _ = transition.shape
    q = np.zeros((num_states, num_actions))
    for s, a, t in itertools.product(range(num_states), range(num_actions), range(num_states)):
        follows = (1 - terminated[s, a, t]) * values[t]
        q[s, a] += transition[s, a, t] * (reward[s, a, t] + gamma * follows)
    return q


def naive_policy_values(process, policy, gamma):
    """Solve for the values of a policy `[S, A]` by numpy."""
    transition, reward, terminated, _ = process
    onward = np.einsum("sa,sat->st", policy, transition * (1 - terminated))
    paid = np.einsum("sa,sat,sat->s", policy, transition, reward)
    return np.linalg.solve(np.eye(len(transition)) - gamma * onward, paid)


def naive_optimum(process, gamma):
    """Try every deterministic policy."""
    num_states, num_actions, _ = process[0].shape
    choices = itertools.product(range(num_actions), repeat=num_states)
    tried = [naive_policy_values(process, np.eye(num_actions)[list(choice)], gamma) for choice in choices]
    return np.max(tried, axis=0)


def grid():
    """Sutton & Barto 2018, example 4.1: a 4 × 4 grid, ends in two corners, each step costs 1."""
    transition, terminated = np.zeros((16, 4, 16)), np.zeros(16, dtype=bool)
    terminated[[0, 15]] = True
    for cell, (action, (down, right)) in itertools.product(
        range(16), enumerate([(-1, 0), (1, 0), (0, 1), (0, -1)])
    ):
        row, column = np.clip([cell // 4 + down, cell % 4 + right], 0, 3)
        transition[cell, action, row * 4 + column] = 1
    return Mdp.from_tensors(transition, np.full((16, 4), -1.0), terminated)


GRID_VALUES = [0, -14, -20, -22, -14, -18, -20, -20, -20, -20, -18, -14, -22, -20, -14, 0]
"""figure 4.1, k = ∞; the corners are entered, not left"""
