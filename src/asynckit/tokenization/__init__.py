"""Text to token shards that a trainer can memory-map: exact, resumable, at the speed of the disk."""
