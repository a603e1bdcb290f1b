"""Records in every format."""
