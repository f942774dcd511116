"""A window on a desktop, and its keyboard."""
