"""Bundle to bundle in FP16 and INT8, and bundle to TensorRT plan: every precision with a measured verdict."""
