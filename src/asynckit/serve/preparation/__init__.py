"""Chat templates and tokenizing, in processes of their own that can be killed when they take too long."""
