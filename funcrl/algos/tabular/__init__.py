"""Tabular learning: one number for every state and action, learnt from every step as it comes."""
