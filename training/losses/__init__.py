"""Losses, matching of queries and segments, and the training objective."""
