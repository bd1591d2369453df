"""Metrics and their accumulation."""
