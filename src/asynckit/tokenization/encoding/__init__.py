"""Text to token ids: the reference, faster engines, and the gate between them."""
