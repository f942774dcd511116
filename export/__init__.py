"""Checkpoint to bundle: the graph under its contract, the text encoder, and the proof that both compute the same."""
