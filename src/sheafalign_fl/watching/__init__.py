"""Is an edge as it was? Checks on receipt, sequential watch, and whose fault it is; arrays alone."""
