"""What of a finer image can be believed: whether its input supports it, and how far it may be off."""
