"""Adapters to real devices; the only place in the gateway that touches one."""
