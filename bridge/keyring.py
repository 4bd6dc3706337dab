"""Which of this replica's keys signs a frame to a car.

Each replica has one key of its own and, while it is being replaced, the next one
beside it. The newest trust bundle says what each may do; the bundle that the car has
says which of them the car knows. While the fleet changes over, cars with the new bundle
get frames of the new key and the others still get frames of the old one
(protocol-design.md 1.1, overlap).

Rule 1: a key that the newest bundle revokes or does not name signs nothing, at once.
Rule 2: the files are read anew when they change; nothing is restarted.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

from bridge.errors import SettingsError, SigningError
from bridge.trust import Trust
from protocol.codes import Lane, Opcode, Role, Suite, SyncType
from protocol.keys import SigningKey
from protocol.trust import EVERY_GROUP, TrustedKey

NEXT_SUFFIX: Final = ".next"
"""Beside the key in use: the one that takes its place."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a key is wanted for."""

    opcode: int | None
    """Opcode or type of SYNC; None for a receipt."""
    lane: Lane
    """Its lane."""
    group: int
    """The car's group."""
    bundle_version: int
    """The bundle that the car has."""
    wall_ms: int
    """Now, UTC ms."""


class NamedKey(Protocol):
    """A key of which it is known how frames name it; it may lie elsewhere."""

    @property
    def suite(self) -> Suite:
        """How it signs."""

    @property
    def key_id(self) -> bytes:
        """The 8 bytes that name it in frames."""


K = TypeVar("K", bound=NamedKey)


def choose(keys: Sequence[K], trust: Trust, use: Use) -> tuple[K, TrustedKey]:
    """Return the key that signs, and what it may.

    Args:
        keys: of this replica, the preferred one first.
        trust: what is trusted now.
        use: what the key is wanted for.

    Raises:
        SigningError: none of them may sign this; says why the first one may not.
    """
    faults: list[str] = []
    known = trust.of_car(use.bundle_version)
    usable: list[tuple[K, TrustedKey]] = []
    for key in keys:
        found = trust.newest.find(key.key_id)
        fault = _fault(key, found, trust, use)
        if fault is None and found is not None:
            usable.append((key, found))
        else:
            faults.append(f"key {key.key_id.hex()} {fault}")
    for key, found in usable:
        if known.find(key.key_id) is not None and key.key_id not in known.revoked:
            return key, found
    if usable:
        # A bundle that the bridge does not know: the car decides.
        return usable[0]
    raise SigningError(
        f"nothing may be signed: {'; '.join(faults) or 'there is no key'}",
        advice="give the bridge a key that the newest trust bundle names",
    )


def _fault(
    key: NamedKey, found: TrustedKey | None, trust: Trust, use: Use
) -> str | None:
    version = trust.newest.version
    if key.key_id in trust.newest.revoked:
        return f"is revoked by trust bundle {version}"
    if found is None:
        return f"is not in trust bundle {version}"
    return _excess(found, use)


def _excess(found: TrustedKey, use: Use) -> str | None:
    """Return what of a use goes beyond a key's grant (FF-TRU-21)."""
    is_receipt = use.opcode is None
    if not (found.role is Role.RECEIPT if is_receipt else found.role.commands):
        return f"has role {found.role.name.lower()}, which may not sign this"
    if use.opcode is not None and use.opcode not in found.opcodes:
        return f"may not sign {_name_of(use.opcode)}"
    if use.lane not in found.lanes:
        return f"may not use lane {use.lane.name.lower()}"
    if found.group not in {EVERY_GROUP, use.group}:
        return f"is for vehicles of group {found.group}, this one is of {use.group}"
    if not found.not_before_ms <= use.wall_ms <= found.not_after_ms:
        return "is out of its dates; check this machine's clock"
    return None


def _name_of(opcode: int) -> str:
    for space in (Opcode, SyncType):
        if opcode in set(space):
            return space(opcode).name.lower()
    return f"0x{opcode:04X}"


class KeyFiles:
    """A replica's key files: the one in use and, perhaps, the next one."""

    def __init__(
        self,
        path: Path,
        *,
        read: Callable[[Path], SigningKey],
        refused: Callable[[SettingsError], None],
    ) -> None:
        """Read the keys.

        Args:
            path: of the key in use; the next one has `NEXT_SUFFIX` behind it.
            read: reads one file, and refuses one that others can read.
            refused: told of a changed file that cannot be used.

        Raises:
            SettingsError: the key in use cannot be used.
        """
        self._paths = (path.with_name(path.name + NEXT_SUFFIX), path)
        self._read = read
        self._refused = refused
        self._lock = threading.Lock()
        self._loaded: dict[Path, SigningKey] = {path: read(path)}
        self._stamps: dict[Path, tuple[int, int] | None] = {path: _stamp(path)}
        self.refresh()

    @property
    def keys(self) -> tuple[SigningKey, ...]:
        """The next key if there is one, then the one in use."""
        loaded = self._loaded
        return tuple(loaded[path] for path in self._paths if path in loaded)

    def refresh(self) -> bool:
        """Read what changed; return whether anything did. From any thread."""
        with self._lock:
            changed = [self._look(path) for path in self._paths]
            return any(changed)

    def _look(self, path: Path) -> bool:
        stamp = _stamp(path)
        if stamp == self._stamps.get(path):
            return False
        self._stamps[path] = stamp
        loaded = dict(self._loaded)
        if stamp is None:
            # A key whose file is gone is not used any more; that is how one is retired.
            loaded.pop(path, None)
        else:
            try:
                loaded[path] = self._read(path)
            except SettingsError as error:
                self._refused(error)
                return False
        self._loaded = loaded
        return True


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
