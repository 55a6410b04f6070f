"""One run: its folder, its results, launching it."""
