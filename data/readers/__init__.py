"""Readers of published and own data sets, one module each; `registry` lists them."""
