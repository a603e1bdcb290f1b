"""Prompts: read, mixed, filtered, in their order, and as token ids."""
