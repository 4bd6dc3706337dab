"""The process that fuzzes one target: ``tests.fuzz.worker TARGET MEASURED OPTION...``.

MEASURED are packages with commas between, since a module that was imported before is
not measured any more; the rest are libFuzzer's options. It ends when libFuzzer does:
with 0 when nothing was found, else with the input in a file (`tests.fuzz.campaign`).
"""

import logging
import sys

import atheris

from tests.fuzz.target import load


def main() -> None:
    """Measure the packages, then give the target inputs until the time is over."""
    name, measured, *options = sys.argv[1:]
    # A reader that refuses may say so; a thousand times a second nobody reads it.
    logging.disable(logging.CRITICAL)
    with atheris.instrument_imports(include=measured.split(",")):
        target = load(name)
    atheris.Setup([name, f"-max_len={target.longest}", *options], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
