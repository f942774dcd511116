"""Photos with masks and names in, a checkpoint out.

datasets -> augment -> batches -> objective (segmenter, matching, losses, distill) -> trainer -> model.pt
teachers -> region_cache -> distill; names, synonyms -> vocabulary -> objective
"""
