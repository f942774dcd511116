"""Sessions: ONNX Runtime, TensorRT and an in-memory function behind one interface."""
