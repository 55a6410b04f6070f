"""What runs a federation: in process, simulated by Flower, deployed, pooled; checking and launching."""
