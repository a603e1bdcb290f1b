"""Records to sequences: documents, chats and pairs with their special tokens and masks, and packing."""
