"""The flight recorder: what the mind was told, kept so that it can be asked why."""
