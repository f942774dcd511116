"""What of an exported graph tells the vector of a region."""
