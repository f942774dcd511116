"""Layouts that a conversion writes, one module each; `layout` says what they have in common."""
