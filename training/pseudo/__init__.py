"""Self-training: a trained model labels what the datasets leave unlabelled, where it is sure."""
