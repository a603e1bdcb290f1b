"""asynckit: asynchronous RL rollouts and serving for language models, on one shared engine."""

__version__ = "0.1.0"
