"""How a fine image becomes the coarse one that an instrument gives: one file each, none shifts the image."""
