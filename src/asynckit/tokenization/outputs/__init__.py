"""Sequences to files: parts that workers write, shards that trainers read, and what reads them back."""
