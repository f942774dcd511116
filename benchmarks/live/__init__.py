"""The running pipeline: class changes, throughput, memory over time."""
