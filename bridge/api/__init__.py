"""The HTTP API that fleet services use."""
