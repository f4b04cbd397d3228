"""Super-resolution networks, one file each: (B, C, *S) to (B, C, *S * factor)."""
