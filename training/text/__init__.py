"""Class names in training: text diversification and text vectors."""
