"""Analysis of quantised weights."""
