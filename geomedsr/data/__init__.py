"""From sources to batches: intensity maps, patch sampling, pairs of coarse and fine, augmentation."""
