"""Bundle to bundle: FP16 and INT8 graphs, each with a measured verdict."""
