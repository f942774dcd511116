"""Training photos: cache, sampling, augmentation, batches."""
