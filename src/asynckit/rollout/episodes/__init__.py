"""One sample between its prompt and its score; with an environment, over several turns."""
