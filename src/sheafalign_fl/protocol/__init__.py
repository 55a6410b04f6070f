"""What travels and what was agreed: frame, rows, agreement, topology, seal, timing; no Flower."""
