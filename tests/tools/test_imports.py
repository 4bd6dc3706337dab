"""Importing any module of any package does nothing but define things."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

SOURCES: Final = Path(__file__).parents[2]

PACKAGES: Final = (
    "protocol",
    "keystore",
    "transport",
    "gateway",
    "firmware_emulator",
    "bridge",
    "certs",
    "tools",
)

# Runs in a process of its own. CPython reports what a program does to the outside as
# audit events (PEP 578), which no module can evade by importing under another name.
PROGRAM: Final = """
import importlib, json, os, pkgutil, sys, threading

package = sys.argv[1]
done = []
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
WATCHED = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn",
           "os.fork", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.putenv",
           "os.chdir", "os.kill", "shutil.", "sqlite3.connect", "urllib.Request")

def watch(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if flags & WRITING and str(path) != os.devnull:
            done.append(f"open {path} for writing")
    elif event.startswith(WATCHED):
        done.append(f"{event} {arguments}")

sys.addaudithook(watch)
before = set(os.listdir("."))
root = importlib.import_module(package)
names = [package] + [
    module.name
    for module in pkgutil.walk_packages(root.__path__, package + ".")
    if not module.name.endswith("__main__")
]
for name in names:
    importlib.import_module(name)
if threading.active_count() != 1:
    done.append(f"threads {[thread.name for thread in threading.enumerate()]}")
if set(os.listdir(".")) != before:
    done.append("files appeared")
print(json.dumps({"names": names, "done": done}), file=sys.stderr)
"""


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_has_no_side_effect(package: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-W", "error", "-c", PROGRAM, package],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(SOURCES),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == ""
    report = json.loads(done.stderr.splitlines()[-1])
    assert len(done.stderr.splitlines()) == 1, "an import printed something"
    assert report["names"][0] == package
    assert report["done"] == []
