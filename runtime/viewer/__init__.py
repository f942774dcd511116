"""The web viewer: an HTTP server, its page, and the sink that feeds it."""
