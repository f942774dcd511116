"""Checkpoint to bundle: exports the segmenter and the text encoder and compares both with torch."""
