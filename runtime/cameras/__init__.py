"""Several cameras on one network: configuration, fair turns, supervision, metrics."""
