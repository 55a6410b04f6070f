"""Deployment, as far as it needs no processes."""
