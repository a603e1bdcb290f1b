"""Before a run: checks, and forecasts in virtual time."""
