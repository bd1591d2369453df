"""Which weights bear rounding."""
