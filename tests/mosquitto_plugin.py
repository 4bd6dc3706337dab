"""Whether the observer of deploy/mosquitto-plugin can be built here, and how."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

SOURCE: Final = (
    Path(__file__).parents[1] / "deploy/mosquitto-plugin/freefloat_trespass.c"
)
HEADER: Final = Path("/usr/include/mosquitto_plugin.h")


def missing_plugin() -> str | None:
    """Return what is missing to build it, or None."""
    if shutil.which("cc") is None:
        return "there is no C compiler: apt-get install gcc libc6-dev"
    if not HEADER.exists():
        return "no headers: apt-get install mosquitto-dev libmosquitto-dev"
    return None


def build_plugin(directory: Path) -> Path:
    """Build it as its head says, with every warning an error."""
    built = directory / "freefloat_trespass.so"
    [line] = [
        line.strip(" *")
        for line in SOURCE.read_text().splitlines()
        if line.startswith(" *   cc ")
    ]
    command = [
        {SOURCE.name: str(SOURCE), built.name: str(built)}.get(word, word)
        for word in line.split()
    ]
    subprocess.run([*command, "-Wextra", "-Werror"], check=True, timeout=60)
    return built
