"""ONNX graph rewriting shared by quantization and the TensorRT builder."""
