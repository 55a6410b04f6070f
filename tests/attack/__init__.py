"""Attacks: somebody lies, and gets nothing."""
