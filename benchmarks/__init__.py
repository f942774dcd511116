"""How fast and how right a bundle is, measured through the same session that `ovs-run` uses.

Measurements return data; tables and files are made from it elsewhere.
"""
