"""Photos with masks and names in, a checkpoint out.

datasets -> augment -> batch -> segmenter -> matching, losses -> trainer -> model.pt
"""
