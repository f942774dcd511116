"""The two resizes around the network on a GPU: frame to input, and label map to frame."""
