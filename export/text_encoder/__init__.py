"""Export of a text encoder: its graph, and parity of vectors and tokens."""
