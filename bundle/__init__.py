"""The artefact every stage shares: what a bundle is, how images and words enter it, and the errors users see.

Imports nothing but numpy and the standard library, so that any stage on any machine can use it.
"""
