"""Layouts of published checkpoints, one a module; `registry` lists them."""
