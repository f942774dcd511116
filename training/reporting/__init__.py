"""Output of a run: progress bar or lines, the log, TensorBoard, the dry run."""
