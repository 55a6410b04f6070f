"""Deployment on separate machines: keys, relay, submission, status, service files."""
