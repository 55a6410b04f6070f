"""One client's learning: node, state, schedule, error feedback and manifest. No Flower in it."""
