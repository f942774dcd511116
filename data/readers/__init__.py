"""Readers of published and own data sets, one module each; `data/photo_sets.py` and `data/video_sets.py` list them."""
