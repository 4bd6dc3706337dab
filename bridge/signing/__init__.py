"""The signer as a process of its own: the bridge asks it over a Unix socket."""
