"""What the source `folder` is made of: arrays and their names, axes, samples, splits, labels."""
