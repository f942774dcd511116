"""What a run tells: progress on the terminal or in plain lines, the log, TensorBoard."""
