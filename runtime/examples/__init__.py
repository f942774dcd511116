"""Classes that are shown instead of named: what the vector of a region is, and the files that keep it."""
