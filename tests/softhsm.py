"""A PKCS#11 token of SoftHSM for tests, in a directory of its own."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MODULES: Final = (
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"),
    Path("/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so"),
)
"""Where distributions put it."""

LABEL: Final = "freefloat test"
PIN: Final = "271828"


def missing_softhsm() -> str | None:
    """What is missing, or None."""
    if find_module() is None or shutil.which("softhsm2-util") is None:
        return "SoftHSM is not installed: apt-get install softhsm2"
    return None


def find_module() -> Path | None:
    return next((path for path in MODULES if path.exists()), None)


@dataclass(frozen=True)
class Token:
    """An initialised token."""

    folder: Path
    module: Path

    def uri(self, label: str, *, pin_file: str = "pin", token: str = LABEL) -> str:
        name = token.replace(" ", "%20")
        return (
            f"pkcs11:token={name};object={label}?module-path={self.module}"
            f"&pin-source={self.folder / pin_file}"
        )


def make_token(folder: Path) -> Token:
    """Make a token; SoftHSM finds it by an environment variable, once a process."""
    module = find_module()
    assert module is not None
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder / 'tokens'}\n")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    subprocess.run(
        [
            "softhsm2-util",
            "--init-token",
            "--free",
            f"--label={LABEL}",
            f"--so-pin={PIN}00",
            f"--pin={PIN}",
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    for name, text in (("pin", PIN), ("wrong", "000000"), ("open", PIN)):
        (folder / name).write_text(text + "\n")
        (folder / name).chmod(0o644 if name == "open" else 0o600)
    return Token(folder, module)
