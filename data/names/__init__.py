"""Names of categories: synonyms, related words, WordNet."""
