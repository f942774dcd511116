"""Bundle to TensorRT plan: build, compare with ONNX Runtime, cache."""
