"""How an operator may name what the bridge tells apart: sinks and API keys."""

from typing import Final

NAME: Final = r"^[a-z0-9][a-z0-9_-]{0,63}$"
"""Fits a metric's label, a path and a column of the store."""
