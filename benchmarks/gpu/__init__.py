"""The GPU kit: detects what a machine has, and measures everything that it can run, within stated times."""
