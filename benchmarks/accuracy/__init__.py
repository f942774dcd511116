"""Accuracy on labelled photos, for each stage from checkpoint to device."""
