"""Chance that repeats: every random choice of the emulator comes from a seed.

Nothing here is a secret. Keys, ids and salts come from the system's generator, in the
gateway as in a real car.
"""

from random import Random


def seeded(seed: int, *purpose: str | int) -> Random:
    """Return a generator of its own for one purpose.

    Cars and choices do not disturb one another's chance: a fleet of five has the same
    first three cars as a fleet of three.

    Args:
        seed: of the whole run.
        purpose: what it is for, as ``"car", 3``.
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    return Random(text)  # noqa: S311 - chance that must repeat, never a secret
