"""How `freefloat gateway run --unattended` begins: crashes before are counted (I-30).

In this order, so that whatever fails is counted by what stands before it:

1. Settings that cannot be used. Where the ledger lies is not known then, so the note is
   kept in memory, where systemd gives the service a directory. The start waits, looks
   at the settings once more, since somebody may have put them right, and ends.
2. Everything after them, by the note beside the ledger. Its copy in memory counts where
   the disk takes nothing: a full or read-only disk is a reason to crash, too.

What dies before any of this, a broken installation for instance, can be counted by
nobody here; the supervisor starts it anew every two seconds.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.core.restart_storm import Patience, RunNote
from gateway.runtime.endurance import Endurance
from gateway.runtime.system_clock import boot_mark
from gateway.settings import Settings, SettingsError
from gateway.storage.files import SystemFiles
from gateway.storage.run_file import RunFile
from tools.console import warning
from tools.errors import OperatorError

FAILPOINT: Final = "FREEFLOAT_FAILPOINT"
"""Names where a test has the agent crash: `start` lets each whole agent crash."""

SETTINGS_RUN_FILE: Final = "settings-runs.json"
"""The note of starts that found no usable settings, in memory."""


def memory_directory() -> Path | None:
    """Return what outlives this process and not the boot; None without a service.

    systemd gives it by RuntimeDirectory=, and keeps it over restarts.
    """
    directory = os.environ.get("RUNTIME_DIRECTORY")
    return Path(directory) if directory else None


def load_patiently(load: Callable[[], Settings]) -> Settings:
    """Return the settings; with unusable ones wait, longer each time, and look again.

    Args:
        load: reads them.

    Raises:
        SettingsError: they are still not usable.
        OperatorError: the installation is incomplete.
    """
    memory = memory_directory()
    if memory is None:
        return load()
    note = RunFile(memory, SystemFiles(), name=SETTINGS_RUN_FILE)
    try:
        settings = load()
    except (SettingsError, OperatorError) as error:
        count_start(note, Patience(), of=f"starts without settings ({error})")
        settings = load()
    if note.read() != RunNote():
        note.write(RunNote())
    return settings


def count_run(settings: Settings) -> Endurance:
    """Count this start, and wait if those before ended by crashes."""
    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        # Opening the ledger says the same, and ends; that start is counted in memory.
        warning(f"{settings.data} cannot be made: {error.strerror}")
    note = RunFile(settings.data, SystemFiles(), memory=memory_directory())
    endurance = count_start(note, settings.restarts.patience, of="crashes")
    if os.environ.get(FAILPOINT) == "start" and not endurance.start.reduced:
        os.abort()
    return endurance


def count_start(note: RunFile, patience: Patience, *, of: str) -> Endurance:
    """Count a start by its note, sleep as long as it must wait, and let it begin.

    Args:
        note: keeps the count.
        patience: how long to wait.
        of: what is counted, for the log.
    """
    endurance = Endurance(note, patience=patience, boot_mark=boot_mark())
    wait_ms = endurance.start.wait_ms
    if wait_ms:
        warning(f"{endurance.crashes} {of} in a row: waits {wait_ms / 1000:g} s")
        time.sleep(wait_ms / 1000)
    endurance.begin()
    return endurance
