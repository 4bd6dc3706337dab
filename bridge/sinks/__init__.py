"""Where events go: a port, and one file for each kind of consumer."""
