"""Losses, and how they are summed."""
