"""What travels and what was agreed: frame, rows, agreement, topology, seal, timing. No Flower in it."""
