"""Rewards: from a name in the configuration to numbers in a record."""
