"""Ablation of the training recipe on held-out categories."""
