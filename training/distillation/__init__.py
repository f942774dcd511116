"""Text-guided knowledge distillation: teachers, their regions and cached vectors."""
