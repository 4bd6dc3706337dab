"""A small backend that uses only the bridge's public HTTP API and its webhook."""
