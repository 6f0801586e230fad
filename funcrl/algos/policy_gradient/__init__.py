"""Algorithms that climb the gradient of a policy: one paper a file, what they share in `agent` and `settings`."""
