"""Tests of `funcrl.serve`."""
