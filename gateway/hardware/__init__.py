"""Adapters to real devices; the only place in the gateway that touches one.

Each implements a port of `gateway.ports` and decides nothing: it turns what a device
does into events and reports a device that is gone once, then looks for it again. Only
the command line in tools/ and the tests import this package, and importing it opens
nothing.
"""
