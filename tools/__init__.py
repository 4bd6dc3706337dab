"""The engineers' command line: `freefloat` and its subcommands.

May import every other package; none of them imports this one.
"""
