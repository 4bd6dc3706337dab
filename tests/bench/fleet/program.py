"""Whether the load generator can be built here, and how; and how a program ends.

It is a program in C (swarm.c), built anew for each run: a second of the compiler, and
never one that is older than its source.
"""

import contextlib
import shutil
import subprocess
from pathlib import Path
from typing import Final

SOURCES: Final = tuple(Path(__file__).with_name(one) for one in ("swarm.c", "car.c"))
HEADER: Final = Path("/usr/include/openssl/ssl.h")

PACKAGES: Final = "gcc libc6-dev libssl-dev"
"""Of Debian: what it takes."""

STRICT: Final = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror")

BUILD_S: Final = 120
"""How long the compiler may take: some seconds, on a machine that is loaded."""


def missing_program() -> str | None:
    """Return what is missing to build it, or None."""
    if shutil.which("cc") is None:
        return f"there is no C compiler: apt-get install {PACKAGES}"
    if not HEADER.exists():
        return f"there are no headers of OpenSSL: apt-get install {PACKAGES}"
    return None


def build_program(directory: Path, *, flags: tuple[str, ...] = ()) -> Path:
    """Build it in a directory and return it.

    Args:
        directory: exists.
        flags: for the compiler, beside the usual ones.

    Raises:
        SystemExit: something is missing, or the compiler refused; it says what.
    """
    if missing := missing_program():
        raise SystemExit(f"the load generator cannot be built: {missing}")
    built = directory / "swarm"
    command = ["cc", *STRICT, *flags, "-o", str(built), *map(str, SOURCES)]
    done = subprocess.run(
        [*command, "-lssl", "-lcrypto"],
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    if done.returncode:
        raise SystemExit(
            f"the load generator cannot be built (it takes {PACKAGES}, OpenSSL 3):\n"
            f"{done.stderr}"
        )
    return built


def let_end(process: subprocess.Popen[str], *, within_s: float) -> None:
    """End a program that ends when its stdin does; kill it if it does not in time."""
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    try:
        process.wait(timeout=within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
