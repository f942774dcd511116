"""Classes shown by example, n of each: n-shot segmentation on labelled photos."""
