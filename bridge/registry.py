"""Which vehicles there are and with which keys they sign.

The registry is the allow-list behind every frame and every connection: a vehicle whose
record is taken out of the directory is refused from the next refresh on, whatever its
TLS certificate still says. A weak, foreign or misnamed record is refused by itself and
said aloud; it harms no other vehicle.

A list that can withdraw cars can also lock out a fleet, when a disk fails or a copy is
cut off, and a list that is merely skipped then lets the withdrawn in again (both
reliability.md L5). Hence:

Rule 1: a vehicle is withdrawn when its record is gone from a directory that can be
read. Nothing else withdraws: a record that was good and is damaged now still counts.
Rule 2: when more go at once than `GONE_SHARE` of the fleet, or all, those whose record
does not lie in ``revoked/`` beside the registry stay, and an alarm says so.
Rule 3: nothing has a date after which the list itself ends.
Rule 4: who was withdrawn stays so until a good record of its name is there again.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509

from bridge.errors import RegistryError
from protocol.enrolment import RECORD_LIMIT, VehicleRecord
from protocol.errors import ProtocolError
from protocol.identity import VehicleId

SUFFIX: Final = ".json"

REVOKED: Final = "revoked"
"""Directory beside the registry's: records that `freefloat certs revoke` moved."""

GONE_SHARE: Final = 10
"""At most a tenth of the fleet, and always one, may vanish without being revoked."""

SETTLE_NS: Final = 2_000_000_000
"""A directory changed less than 2 s ago may change again within the same tick of its
file system's clock (10 ms on ext4, 2 s on FAT), so its stamp does not count yet."""


@dataclass(frozen=True, slots=True)
class Registry:
    """The vehicles of one fleet, by id."""

    records: Mapping[VehicleId, VehicleRecord] = field(default_factory=dict)
    """Verified records."""
    owners: Mapping[bytes, VehicleId] = field(default_factory=dict)
    """Whose enrolled key it is, by key id."""

    def get(self, vehicle_id: VehicleId) -> VehicleRecord | None:
        """Return a vehicle's record, or None if it is not of this fleet."""
        return self.records.get(vehicle_id)

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[VehicleId]:
        """Iterate in the order of the ids' text, which is that of pages."""
        return iter(sorted(self.records, key=str))


def read_record(
    name: str, data: bytes, *, fleet_id: bytes, issuers: Sequence[x509.Certificate]
) -> VehicleRecord:
    """Verify one record file.

    Raises:
        RegistryError: it cannot be believed; the message says why and what to do.
    """
    advice = "issue this vehicle again with `freefloat certs issue`"
    try:
        record = VehicleRecord.parse(data, fleet_id=fleet_id, issuers=issuers)
    except ProtocolError as error:
        raise RegistryError(
            f"vehicle record {name} is refused: {error}", advice=advice
        ) from error
    if name != f"{record.vehicle_id}{SUFFIX}":
        raise RegistryError(
            f"vehicle record {name} is refused: it is of {record.vehicle_id}",
            advice=f"rename it to {record.vehicle_id}{SUFFIX}",
        )
    return record


def build_registry(
    records: Mapping[str, VehicleRecord],
) -> tuple[Registry, list[RegistryError]]:
    """Put records together; return the registry and what had to be left out.

    Two vehicles must not share a key id, because a signature would not say which of
    them signed (protocol-design.md 1). The record that comes first by name stays.
    """
    by_key: dict[bytes, VehicleId] = {}
    accepted: dict[VehicleId, VehicleRecord] = {}
    refused: list[RegistryError] = []
    for name, record in sorted(records.items()):
        owner = by_key.setdefault(record.signing_key.key_id, record.vehicle_id)
        if owner == record.vehicle_id:
            accepted[record.vehicle_id] = record
            continue
        refused.append(
            RegistryError(
                f"vehicle record {name} is refused: its signing key has the id of "
                f"{owner}'s",
                advice="issue this vehicle again with a new key",
            )
        )
    return Registry(accepted, by_key), refused


class RegistryDirectory:
    """Keeps a `Registry` equal to a directory of records, without restart.

    `refresh` may be called from any thread and costs one `stat` while nothing changed.
    """

    def __init__(
        self,
        path: Path,
        *,
        fleet_id: bytes,
        issuers: Sequence[x509.Certificate],
        wall_ns: Callable[[], int],
        refused: Callable[[RegistryError], None],
    ) -> None:
        self._path = path
        self._fleet_id = fleet_id
        self._issuers = issuers
        self._wall_ns = wall_ns
        self._refused = refused
        self._lock = threading.Lock()
        self._revoked_path = path.parent / REVOKED
        self._stamp: tuple[int, int] | None = None
        self._seen: dict[str, tuple[int, int]] = {}
        self._records: dict[str, VehicleRecord] = {}
        self._current = Registry()
        self._names: frozenset[str] = frozenset()
        self._withdrawn: frozenset[str] = frozenset()
        self._alarm = ""

    @property
    def current(self) -> Registry:
        """The registry of the last refresh; never changes under its holder."""
        return self._current

    @property
    def withdrawn(self) -> frozenset[str]:
        """Ids, as text, of vehicles that had a record and have none any more."""
        return self._withdrawn

    @property
    def alarm(self) -> str:
        """What is wrong with the directory while an older state stands; else empty."""
        return self._alarm

    def admits(self, name: str) -> bool:
        """Whether a certificate's common name is that of a registered vehicle."""
        return name in self._names

    def refresh(self) -> bool:
        """Read what is new in the directory; return whether anything changed.

        Raises:
            RegistryError: the directory itself cannot be read; the registry stays.
        """
        with self._lock:
            try:
                return self._refresh()
            except OSError as error:
                self._alarm = (
                    f"registry {self._path} cannot be read: {error.strerror}; the "
                    f"{len(self._current)} vehicles known so far still count"
                )
                raise RegistryError(
                    f"registry {self._path} cannot be read: {error.strerror}",
                    advice="check the path; `freefloat certs init` makes one",
                ) from error

    def _refresh(self) -> bool:
        stamps = (self._path.stat().st_mtime_ns, _stamp_of(self._revoked_path))
        if stamps == self._stamp:
            return False
        found: dict[str, tuple[int, int]] = {}
        for entry in self._path.iterdir():
            if entry.suffix == SUFFIX:
                status = entry.stat()
                found[entry.name] = (status.st_mtime_ns, status.st_size)
        revoked = _names_in(self._revoked_path)
        is_settled = self._wall_ns() - max(stamps) > SETTLE_NS
        self._stamp = stamps if is_settled else None
        held = self._held(found, revoked)
        gone = self._records.keys() - found.keys() - held
        changed = [name for name in found if found[name] != self._seen.get(name)]
        # Who is moved away while held is withdrawn without any change of `found`.
        if not gone and not changed and found.keys() == self._seen.keys():
            return False
        for name in gone:
            del self._records[name]
        for name in sorted(changed):
            self._read(name)
        self._seen = found
        self._withdrawn = frozenset(
            name.removesuffix(SUFFIX)
            for name in (revoked | gone | {f"{one}{SUFFIX}" for one in self._withdrawn})
            - self._records.keys()
        )
        self._current, refused = build_registry(self._records)
        self._names = frozenset(map(str, self._current))
        for error in refused:
            self._refused(error)
        return True

    def _held(
        self, found: Mapping[str, tuple[int, int]], revoked: frozenset[str]
    ) -> frozenset[str]:
        """Return which vanished records stay in force, by rule 2."""
        unexplained = self._records.keys() - found.keys() - revoked
        allowed = max(1, len(self._records) // GONE_SHARE)
        is_plausible = len(unexplained) <= allowed and (found or not unexplained)
        if is_plausible:
            self._alarm = ""
            return frozenset()
        alarm = (
            f"{len(unexplained)} of {len(self._records)} vehicle records are gone from "
            f"{self._path} and not in {REVOKED}/: they still count"
        )
        if alarm != self._alarm:
            self._alarm = alarm
            self._refused(
                RegistryError(
                    alarm,
                    advice="bring the directory back, or withdraw these vehicles with "
                    "`freefloat certs revoke`",
                )
            )
        return frozenset(unexplained)

    def _read(self, name: str) -> None:
        try:
            with (self._path / name).open("rb") as file:
                data = file.read(RECORD_LIMIT + 1)
            self._records[name] = read_record(
                name, data, fleet_id=self._fleet_id, issuers=self._issuers
            )
        except RegistryError as error:
            self._refused(error)
        except OSError as error:
            self._refused(
                RegistryError(
                    f"vehicle record {name} cannot be read: {error.strerror}",
                    advice="give it to the user that runs the bridge",
                )
            )


def _stamp_of(directory: Path) -> int:
    try:
        return directory.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _names_in(directory: Path) -> frozenset[str]:
    try:
        return frozenset(p.name for p in directory.iterdir() if p.suffix == SUFFIX)
    except OSError:
        # Unreadable is not empty, but who is in it is known by being gone, too.
        return frozenset()
