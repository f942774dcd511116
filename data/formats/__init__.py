"""Formats of labels that other tools write, one module each; `registry` lists them."""
