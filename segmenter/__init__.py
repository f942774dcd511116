"""The torch model: an image and text vectors in, query masks and class logits out.

    image -> backbone -> pixel decoder -> query decoder -> mask logits, query embeddings
                                      text vectors -> cosine classifier -> class logits -> semantic scores

Follows "Global Knowledge Calibration for Fast Open-Vocabulary Segmentation" (ICCV 2023) on the Mask2Former design.
"""
