"""Hand-over between threads: a channel of frames, and a worker that runs the newest task only."""
