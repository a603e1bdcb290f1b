"""What a run shows of itself: metrics, the live table, a trace, a report."""
