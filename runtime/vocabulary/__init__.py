"""Class names to text vectors: encoder, cache, background classes, out-of-vocabulary names, changes while running."""
