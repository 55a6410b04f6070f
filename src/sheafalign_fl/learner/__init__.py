"""One client's learning: its node, state, schedule, error feedback and manifest. No Flower in it."""
