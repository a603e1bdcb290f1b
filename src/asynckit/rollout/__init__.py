"""Fully asynchronous RL rollouts on Ray."""
