"""What the commands do: the one place where files meet models. Each module is one errand, and imports what it needs."""
