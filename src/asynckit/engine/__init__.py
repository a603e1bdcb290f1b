"""The inference engine shared by rollout and serve."""
