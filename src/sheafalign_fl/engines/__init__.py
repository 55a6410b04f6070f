"""What runs a federation: in process, simulated by Flower, deployed, pooled; checks and launch."""
