"""Classes: names to text vectors, background classes, cached vectors, and changes of classes while frames are processed."""
