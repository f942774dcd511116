"""Speed of bundles, precisions and engines, and of other models beside them."""
