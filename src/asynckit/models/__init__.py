"""Names to local model folders, tokenizers and processors."""
