"""What survives a power cut: state, ledger, journal and keys."""
