"""Deep Q-learning: networks that return the values of discrete actions."""
