"""Comparing methods under equal conditions: cells (data x method x seed), what came of them, and what that shows."""
