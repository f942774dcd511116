"""What the labels of a picture are made of: regions, their runs of pixels, and their outlines."""
