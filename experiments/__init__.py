"""Configurations and benchmark programs."""
