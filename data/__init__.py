"""Labelled photos and clips: one registry of data-set readers for training, calibration and benchmarks."""
