"""Discrepancies between a real and a synthetic sample: pure functions (..., n, d), (..., m, d) -> (...)."""
