"""Segmentation with a plain CLIP vision transformer, without training: its last block is computed another way.

image -> windows -> ViT blocks -> dense last block -> a vector for every patch
patch vectors x text vectors -> cosine maps -> averaged where windows overlap, at the size of the image
-> optional refinement by the image -> softmax over the names, maximum over a class's names
"""
