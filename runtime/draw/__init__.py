"""Predictions drawn on frames: regions, outlines, names, legend."""
