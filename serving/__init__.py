"""`ovs-serve`: segmentation over HTTP for many clients, each with classes of its own."""
