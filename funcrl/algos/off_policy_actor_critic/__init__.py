"""Actors that climb what critics have learnt from replayed experience."""
