"""Text encoders (CLIP, MiniLM) and their tokenizers."""
