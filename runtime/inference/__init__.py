"""One frame: preprocessing, the segmenter, smoothing, key frames, and the prediction."""
