"""Accuracy and temporal consistency on video clips."""
