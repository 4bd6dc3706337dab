"""How a proof says which entries are missing: for who gives it and for who asks.

Beside the route and not in it: who asks needs no web server.
"""

from typing import Final

MISSING_HEADER: Final = "Freefloat-Missing-Entries"
"""Entries of the rental that were given up; the file's run begins behind them."""
