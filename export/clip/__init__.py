"""Export of a plain CLIP: graph, parity with its recipe, one call from weights to a bundle."""
