"""Which vehicles there are and with which keys they sign.

The registry is the allow-list behind every frame (reliability.md L5): a vehicle whose
record is taken out of the directory is refused from the next refresh on, whatever its
TLS certificate still says. A weak, foreign or misnamed record is refused by itself and
said aloud; it harms no other vehicle.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509

from bridge.errors import RegistryError
from protocol.enrolment import RECORD_LIMIT, VehicleRecord
from protocol.errors import ProtocolError
from protocol.identity import VehicleId

SUFFIX: Final = ".json"

SETTLE_NS: Final = 2_000_000_000
"""A directory changed less than 2 s ago may change again within the same tick of its
file system's clock (10 ms on ext4, 2 s on FAT), so its stamp does not count yet."""


@dataclass(frozen=True, slots=True)
class Registry:
    """The vehicles of one fleet, by id."""

    records: Mapping[VehicleId, VehicleRecord] = field(default_factory=dict)
    """Verified records."""

    def get(self, vehicle_id: VehicleId) -> VehicleRecord | None:
        """Return a vehicle's record, or None if it is not of this fleet."""
        return self.records.get(vehicle_id)

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[VehicleId]:
        """Iterate in the order of the ids' text, which is that of pages."""
        return iter(sorted(self.records, key=str))


def read_record(
    name: str, data: bytes, *, fleet_id: bytes, issuer: x509.Certificate
) -> VehicleRecord:
    """Verify one record file.

    Raises:
        RegistryError: it cannot be believed; the message says why and what to do.
    """
    advice = "issue this vehicle again with `freefloat certs issue`"
    try:
        record = VehicleRecord.parse(data, fleet_id=fleet_id, issuer=issuer)
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
    return Registry(accepted), refused


class RegistryDirectory:
    """Keeps a `Registry` equal to a directory of records, without restart.

    `refresh` may be called from any thread and costs one `stat` while nothing changed.
    """

    def __init__(
        self,
        path: Path,
        *,
        fleet_id: bytes,
        issuer: x509.Certificate,
        wall_ns: Callable[[], int],
        refused: Callable[[RegistryError], None],
    ) -> None:
        self._path = path
        self._fleet_id = fleet_id
        self._issuer = issuer
        self._wall_ns = wall_ns
        self._refused = refused
        self._lock = threading.Lock()
        self._stamp: int | None = None
        self._seen: dict[str, tuple[int, int]] = {}
        self._records: dict[str, VehicleRecord] = {}
        self._current = Registry()

    @property
    def current(self) -> Registry:
        """The registry of the last refresh; never changes under its holder."""
        return self._current

    def refresh(self) -> bool:
        """Read what is new in the directory; return whether anything changed.

        Raises:
            RegistryError: the directory itself cannot be read; the registry stays.
        """
        with self._lock:
            try:
                return self._refresh()
            except OSError as error:
                raise RegistryError(
                    f"registry {self._path} cannot be read: {error.strerror}",
                    advice="check the path; `freefloat certs init` makes one",
                ) from error

    def _refresh(self) -> bool:
        stamp = self._path.stat().st_mtime_ns
        if stamp == self._stamp:
            return False
        found: dict[str, tuple[int, int]] = {}
        for entry in self._path.iterdir():
            if entry.suffix == SUFFIX:
                status = entry.stat()
                found[entry.name] = (status.st_mtime_ns, status.st_size)
        is_settled = self._wall_ns() - stamp > SETTLE_NS
        self._stamp = stamp if is_settled else None
        if found == self._seen:
            return False
        for name in self._seen.keys() - found.keys():
            self._records.pop(name, None)
        for name in sorted(
            name for name in found if found[name] != self._seen.get(name)
        ):
            self._read(name)
        self._seen = found
        self._current, refused = build_registry(self._records)
        for error in refused:
            self._refused(error)
        return True

    def _read(self, name: str) -> None:
        self._records.pop(name, None)
        try:
            with (self._path / name).open("rb") as file:
                data = file.read(RECORD_LIMIT + 1)
            self._records[name] = read_record(
                name, data, fleet_id=self._fleet_id, issuer=self._issuer
            )
        except RegistryError as error:
            self._refused(error)
