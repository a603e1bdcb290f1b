"""From records to the token sequences that a trainer reads: special tokens, chats, pairs, packing."""
