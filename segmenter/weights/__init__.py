"""Files of weights: read without running code, freed from the wrappers of training tools, loaded by name."""
