"""The authority's books: one-time claims and every TLS certificate of a vehicle.

One SQLite file beside the CA, mode 0600. The registry directory says which vehicles
there are; the books say what was handed to them: which claims are open or used, which
certificates run until when. A claim's text is not in here, only its hash: whoever reads
a backup can enrol nothing.

Rule: what may happen once is decided by one statement of the database and not by a
look before a write, so that two requests at the same instant get one answer of yes.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certs.errors import FleetError
from certs.files import PRIVATE_FILE
from protocol.identity import VehicleId

REVISION: Final = 1
"""Of the tables; a file of another one is refused."""

_WAIT_S: Final = 10.0
"""How long one process waits for another's transaction."""

_TABLES: Final = """
create table if not exists vouchers (
    hash blob primary key,
    vehicle_id text not null,
    serial text not null,
    made_s integer not null,
    expires_s integer not null,
    used_s integer,
    key_id blob
) strict;
create table if not exists issued (
    serial text primary key,
    vehicle_id text not null,
    begin_s integer not null,
    end_s integer not null,
    spki blob not null,
    how text not null,
    signed_s integer not null,
    certificate blob not null
) strict;
create index if not exists issued_vehicle on issued (vehicle_id, end_s);
create index if not exists issued_spki on issued (spki);
create table if not exists grace (
    vehicle_id text primary key,
    until_s integer not null
) strict;
"""


@dataclass(frozen=True, slots=True)
class Voucher:
    """A one-time claim as the books have it."""

    hash: bytes
    """SHA-256 of the claim's text."""
    vehicle_id: VehicleId
    """The only vehicle that it is good for."""
    serial: str
    """Serial number of the device that must name it; empty if none was asked for."""
    made: datetime
    """When."""
    expires: datetime
    """From when on it is good for nothing."""
    used: datetime | None
    """When it was used."""
    key_id: bytes | None
    """Signing key that used it: the same vehicle may ask again for a lost answer."""


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A TLS certificate of a vehicle."""

    vehicle_id: VehicleId
    """Whose."""
    begin: datetime
    """Not valid before."""
    end: datetime
    """Not valid after."""
    signed: datetime
    """When it was signed; `begin` is earlier."""
    how: str
    """``issue``, ``enroll``, ``reenroll`` or ``grace``."""
    certificate: x509.Certificate
    """Itself."""


class Books:
    """Access to the file; one for each process, safe among threads."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the books, and begin them if there are none.

        Raises:
            FleetError: the file is none of ours, or cannot be used.
        """
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
            os.close(handle)
            connection = sqlite3.connect(
                path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False
            )
            try:
                connection.execute("pragma synchronous = full")
                revision = connection.execute("pragma user_version").fetchone()[0]
                _require_revision(path, revision)
                if revision == 0:
                    connection.executescript(_TABLES)
                    connection.execute(f"pragma user_version = {REVISION}")
            except BaseException:
                connection.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise FleetError(
                f"{path} cannot be used: {error}",
                "check owner, mode and disk; bring it back from a backup if it is "
                "damaged",
            ) from None
        return cls(connection)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._connection.execute("begin immediate")
                try:
                    yield self._connection
                except BaseException:
                    self._connection.execute("rollback")
                    raise
                self._connection.execute("commit")
            except sqlite3.Error as error:
                raise FleetError(
                    f"the authority's books cannot be written: {error}",
                    "free the disk or end the process that holds them; nothing was "
                    "done",
                ) from error

    # --- claims ---------------------------------------------------------------------

    def add_voucher(self, voucher: Voucher) -> None:
        """Write down a claim that was made."""
        with self._transaction() as connection:
            connection.execute(
                "insert into vouchers values (?, ?, ?, ?, ?, null, null)",
                (
                    voucher.hash,
                    str(voucher.vehicle_id),
                    voucher.serial,
                    _seconds(voucher.made),
                    _seconds(voucher.expires),
                ),
            )

    def find_voucher(self, digest: bytes) -> Voucher | None:
        """Return the claim of this hash."""
        with self._transaction() as connection:
            row = connection.execute(
                "select * from vouchers where hash = ?", (digest,)
            ).fetchone()
        return None if row is None else _voucher(row)

    def vouchers(self) -> list[Voucher]:
        """Return all claims, oldest first."""
        with self._transaction() as connection:
            rows = connection.execute(
                "select * from vouchers order by made_s, hash"
            ).fetchall()
        return [_voucher(row) for row in rows]

    def use_voucher(self, digest: bytes, *, key_id: bytes, now: datetime) -> bool:
        """Use a claim for one signing key; False if it is used or over.

        The key that used it gets True again: its answer may have been lost.
        """
        with self._transaction() as connection:
            done = connection.execute(
                "update vouchers set used_s = coalesce(used_s, ?1), key_id = ?2 "
                "where hash = ?3 and expires_s > ?1 "
                "and (used_s is null or key_id = ?2)",
                (_seconds(now), key_id, digest),
            )
        return done.rowcount == 1

    # --- certificates ---------------------------------------------------------------

    def add_issued(
        self,
        vehicle_id: VehicleId,
        certificate: x509.Certificate,
        *,
        how: str,
        now: datetime,
    ) -> None:
        """Write down a TLS certificate that was signed."""
        with self._transaction() as connection:
            connection.execute(
                "insert into issued values (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    f"{certificate.serial_number:x}",
                    str(vehicle_id),
                    _seconds(certificate.not_valid_before_utc),
                    _seconds(certificate.not_valid_after_utc),
                    spki_digest(certificate.public_key()),
                    how,
                    _seconds(now),
                    certificate.public_bytes(Encoding.DER),
                ),
            )

    def owners(self, spki: bytes) -> set[VehicleId]:
        """Return whose certificates bind the key of this digest."""
        with self._transaction() as connection:
            rows = connection.execute(
                "select distinct vehicle_id from issued where spki = ?", (spki,)
            ).fetchall()
        return {VehicleId.from_text(row[0]) for row in rows}

    def newest(
        self, vehicle_id: VehicleId, *, spki: bytes | None = None
    ) -> IssuedCertificate | None:
        """Return a vehicle's certificate that ends last, of one key or of any."""
        found = self._issued(
            "vehicle_id = ? and (? is null or spki = ?) "
            "order by end_s desc, signed_s desc limit 1",
            (str(vehicle_id), spki, spki),
        )
        return found[0] if found else None

    def running(
        self, *, now: datetime, vehicle_id: VehicleId | None = None
    ) -> list[IssuedCertificate]:
        """Return the certificates that have not ended, of one vehicle or of all."""
        name = None if vehicle_id is None else str(vehicle_id)
        return self._issued(
            "end_s > ? and (? is null or vehicle_id = ?) order by vehicle_id, end_s",
            (_seconds(now), name, name),
        )

    def count_since(self, vehicle_id: VehicleId, since: datetime) -> int:
        """Return how many certificates a vehicle was given since then."""
        with self._transaction() as connection:
            row = connection.execute(
                "select count(*) from issued where vehicle_id = ? and signed_s >= ?",
                (str(vehicle_id), _seconds(since)),
            ).fetchone()
        return int(row[0])

    def forget_before(self, moment: datetime) -> None:
        """Delete certificates and unused claims that ended before then.

        A vehicle's newest certificate stays: its end decides about grace.
        """
        with self._transaction() as connection:
            connection.execute(
                "delete from issued where end_s < ?1 and end_s < (select max(end_s) "
                "from issued as other where other.vehicle_id = issued.vehicle_id)",
                (_seconds(moment),),
            )
            connection.execute(
                "delete from vouchers where expires_s < ? and used_s is null",
                (_seconds(moment),),
            )

    def _issued(
        self, where: str, arguments: tuple[object, ...]
    ) -> list[IssuedCertificate]:
        with self._transaction() as connection:
            rows = connection.execute(  # the texts are our own
                "select vehicle_id, begin_s, end_s, signed_s, how, certificate "  # noqa: S608 - our own texts
                f"from issued where {where}",
                arguments,
            ).fetchall()
        return [
            IssuedCertificate(
                VehicleId.from_text(row[0]),
                _moment(row[1]),
                _moment(row[2]),
                _moment(row[3]),
                row[4],
                x509.load_der_x509_certificate(row[5]),
            )
            for row in rows
        ]

    # --- grace ----------------------------------------------------------------------

    def extend_grace(self, vehicle_id: VehicleId, *, until: datetime) -> None:
        """Let one vehicle renew by its signing key until then."""
        with self._transaction() as connection:
            connection.execute(
                "insert into grace values (?1, ?2) "
                "on conflict (vehicle_id) do update set until_s = ?2",
                (str(vehicle_id), _seconds(until)),
            )

    def grace_until(self, vehicle_id: VehicleId) -> datetime | None:
        """Return until when a person let this vehicle renew, if one did."""
        with self._transaction() as connection:
            row = connection.execute(
                "select until_s from grace where vehicle_id = ?", (str(vehicle_id),)
            ).fetchone()
        return None if row is None else _moment(row[0])


def _require_revision(path: Path, revision: int) -> None:
    if revision not in {0, REVISION}:
        raise FleetError(
            f"{path} has revision {revision}, this reads {REVISION}",
            "use the freefloat that wrote it, or a newer one",
        )


def spki_digest(key: object) -> bytes:
    """Return the 32 bytes by which the books know a public key."""
    public_bytes = key.public_bytes(  # type: ignore[attr-defined]
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    digest = hashes.Hash(hashes.SHA256())
    digest.update(public_bytes)
    return digest.finalize()


def _voucher(
    row: tuple[bytes, str, str, int, int, int | None, bytes | None],
) -> Voucher:
    digest, vehicle_id, serial, made_s, expires_s, used_s, key_id = row
    return Voucher(
        digest,
        VehicleId.from_text(vehicle_id),
        serial,
        _moment(made_s),
        _moment(expires_s),
        None if used_s is None else _moment(used_s),
        key_id,
    )


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
