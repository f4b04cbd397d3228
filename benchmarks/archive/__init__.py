"""What archives cost, and what they survive."""
