"""Terms that accompany a discrepancy, and the schedules of their weights: pure functions."""
