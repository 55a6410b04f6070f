"""Comparing methods under equal conditions: cells (data x method x seed), results, findings."""
