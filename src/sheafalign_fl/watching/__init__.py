"""Is an edge as it was? Checks on receipt, a sequential watch, and whose fault it is."""
