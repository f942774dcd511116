"""Live sources: cameras, network streams, screens; always at their newest frame."""
