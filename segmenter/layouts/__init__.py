"""Layouts of published checkpoints: GKC and FC-CLIP."""
