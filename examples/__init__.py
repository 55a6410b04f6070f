"""Worked examples of data of your own."""
