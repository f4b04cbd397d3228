"""Inference: a stream that reads ahead, runs and writes behind, in memory bounded by the tile."""
