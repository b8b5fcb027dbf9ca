"""Behavioural tests of a run's model: what its answers should do when texts change."""
