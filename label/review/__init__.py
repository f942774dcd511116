"""Which labels a person should look at first, as a page and as a project of CVAT."""
