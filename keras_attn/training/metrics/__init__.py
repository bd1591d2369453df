"""Metrics, and how they are summed."""
