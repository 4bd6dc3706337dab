"""The shell around the core: performs what it decides, and decides nothing."""
