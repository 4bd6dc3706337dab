"""The fleet directory: where a fleet's keys, certificates and registry lie.

::

    fleet.json                       public: which fleet
    ca/        root.* issuing.* trust-anchors.pem books.sqlite vehicles.crl
    broker/    bridge/1/  engineer/1/  enrolment/    tls.crt tls.key of each
    trust/     root-1..3.key .pub, bundle-1.bin bundle-2.bin ...
    signer/    command-1.key receipt-1.key
    registry/  <VEHICLE>.json        public records; who stands in here is in the fleet
    revoked/   <VEHICLE>.json        public records of withdrawn vehicles
    audit/     security.jsonl        who was given what, and what somebody tried
    vehicles/  <VEHICLE>/            what is copied into a car

``ca/root.key`` and ``trust/root-*.key`` belong offline once the fleet is made: nothing
that is done from day to day reads them.
"""

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from certs.audit_log import AuditLog
from certs.authority import Authority, host_names, new_tls_key, pem_chain
from certs.books import Books
from certs.enrolment import Enrolled, enrolled_in
from certs.errors import ExistsError, FleetError, RequestError
from certs.files import (
    exclusive,
    make_directory,
    new_tree,
    read_private,
    require_absent,
    sync_directory,
    write_new,
)
from certs.profiles import FLEET_NAME, Kind
from certs.trust import (
    ROOT_COUNT,
    ROOT_THRESHOLD,
    first_bundle,
    new_signing_key,
    trust_roots,
)
from keystore.errors import UnfitKeyError
from keystore.private_key import parse_private_key
from protocol.codes import Code
from protocol.enrolment import RECORD_LIMIT, VehicleRecord, is_issued_by
from protocol.errors import DecodeError, ProtocolError
from protocol.fleet import (
    Fleet,
    FleetPart,
    TlsPart,
    build_fleet,
    parse_fleet,
)
from protocol.identity import ID_SIZE, VEHICLE_TEXT, VehicleId
from protocol.keyfile import build_key, raw_public_key
from protocol.keys import Ed25519SigningKey, VerifyKey
from protocol.succession import succeed
from protocol.trust import TrustBundle, TrustRoots, open_bundle

FORMER_ROOTS: Final = "ca/former-roots.pem"
"""Roots that are not trusted any more; evidence needs them."""

LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
"""In every broker certificate: demo and tests check names as production does."""


ISSUING_WAIT_S: Final = 5.0
"""The enrolment service holds the registry for milliseconds at a time."""


@dataclass(frozen=True, slots=True)
class FleetDirectory:
    """A fleet's directory, known to be one."""

    path: Path
    """Where it is."""
    fleet: Fleet
    """What ``fleet.json`` says."""

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        name: str,
        hosts: Iterable[str] = (),
        now: datetime,
    ) -> Self:
        """Make a fleet with all its keys, or nothing.

        Args:
            path: nothing or an empty directory; its parent exists.
            name: matches `certs.profiles.FLEET_NAME`.
            hosts: names and addresses of the broker, besides `LOCAL_HOSTS`.
            now: with a time zone.

        Raises:
            RequestError: a name or host is not allowed.
            ExistsError: something is at `path`; it is untouched.
            FleetError: the parent directory is missing.
            OSError: it could not be written; nothing is left behind.
        """
        if not FLEET_NAME.fullmatch(name):
            raise RequestError(
                f"fleet name {name[:80]!r} is not 1 to 32 letters, digits, spaces, "
                "'.', '_' or '-'",
                "give another --name; it begins and ends with a letter or digit",
            )
        all_hosts = (*LOCAL_HOSTS, *hosts)
        host_names(all_hosts)
        target = path.resolve()
        if not target.parent.is_dir():
            raise FleetError(
                f"{target.parent} is no directory", f"make it: mkdir -p {target.parent}"
            )
        if (target / FleetPart.IDENTITY).exists():
            raise ExistsError(
                f"{path} holds a fleet already",
                f"add vehicles with 'freefloat certs issue {path}', or choose another "
                "directory for another fleet; nothing was touched",
            )
        require_absent(target)
        created = now.replace(microsecond=0)
        fleet = Fleet(secrets.token_bytes(ID_SIZE), name, created)
        with new_tree(target, private=False) as partial:
            _fill(partial, fleet, all_hosts, now=now)
        return cls(path, fleet)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read which fleet a directory holds.

        Raises:
            FleetError: it holds none, or its ``fleet.json`` is damaged.
        """
        try:
            data = (path / FleetPart.IDENTITY).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise FleetError(
                f"{path} holds no fleet: there is no {FleetPart.IDENTITY} in it",
                f"make one with 'freefloat certs init {path}', or name another "
                "directory",
            ) from None
        try:
            return cls(path, parse_fleet(data))
        except ProtocolError as error:
            raise FleetError(
                f"{path / FleetPart.IDENTITY}: {error}",
                "bring the file back from a backup",
            ) from None

    # --- certificates ---------------------------------------------------------------

    def certificate(self, part: str) -> x509.Certificate:
        """Read the first certificate of a file, which is the leaf.

        Raises:
            FleetError: the file is missing or holds no certificate.
        """
        return self.certificates(part)[0]

    def certificates(self, part: str) -> list[x509.Certificate]:
        """Read all certificates of a file; at least one.

        Raises:
            FleetError: the file is missing or holds no certificate.
        """
        path = self.path / part
        try:
            return x509.load_pem_x509_certificates(path.read_bytes())
        except FileNotFoundError:
            raise FleetError(
                f"{path} is missing", "bring it back from a backup"
            ) from None
        except ValueError:
            raise FleetError(
                f"{path} holds no certificate in PEM", "bring it back from a backup"
            ) from None

    @property
    def issuing_certificate(self) -> x509.Certificate:
        """The CA that signs from day to day."""
        return self.certificate(FleetPart.ISSUING_CERTIFICATE)

    @property
    def issuing_certificates(self) -> list[x509.Certificate]:
        """All certificates that this CA had, the present one first.

        The older ones verify what they signed: records, whose certificates live longer
        than their CA's, and evidence.
        """
        return self.certificates(FleetPart.ISSUING_CERTIFICATE)

    @property
    def evidence_roots(self) -> list[x509.Certificate]:
        """The roots by which evidence is judged: the trusted ones and all before them.

        No connection is made by a former root; what a car proved under it stays proved.
        """
        roots = self.certificates(FleetPart.TRUST_ANCHORS)
        if (self.path / FORMER_ROOTS).exists():
            roots += self.certificates(FORMER_ROOTS)
        return roots

    def issuer_of(self, leaf: x509.Certificate) -> x509.Certificate:
        """Return the newest CA certificate whose key signed a leaf.

        Raises:
            FleetError: none did.
        """
        for issuer in self.issuing_certificates:
            if is_issued_by(leaf, issuer):
                return issuer
        raise FleetError(
            f"a certificate was issued by none of {FleetPart.ISSUING_CERTIFICATE}",
            "let this authority make it anew: freefloat certs renew",
        )

    def root_links(self) -> list[x509.Certificate]:
        """New roots signed by old ones; none before the first change of roots.

        Raises:
            FleetError: the file holds no certificate.
        """
        if not (self.path / FleetPart.ROOT_LINKS).exists():
            return []
        return self.certificates(FleetPart.ROOT_LINKS)

    def chain(self, leaf: x509.Certificate) -> bytes:
        """Return in PEM what a server or client of this fleet sends: leaf first.

        Links come last, so that who trusts an old root only still finds a way to it.
        """
        return pem_chain(leaf, self.issuer_of(leaf), *self.root_links())

    def issuing_authority(self) -> Authority:
        """Load the CA that issues from day to day.

        Raises:
            FleetError: its key or certificate is missing, damaged, does not belong to
                the other, or others can read the key.
            UriError, TokenError: the file names a key in a token that cannot be used.
        """
        path = self.path / FleetPart.ISSUING_KEY
        data = read_private(path)
        key: object = None
        with suppress(UnfitKeyError):
            key = parse_private_key(data, name=str(path))
        if isinstance(key, ec.EllipticCurvePrivateKey):
            for certificate in self.issuing_certificates:
                if key.public_key() == certificate.public_key():
                    return Authority(certificate, key)
        raise FleetError(
            f"{path} is not the key of {FleetPart.ISSUING_CERTIFICATE}",
            "bring both back from the same backup",
        )

    # --- trust ----------------------------------------------------------------------

    def trust_roots(self) -> TrustRoots:
        """Return who must sign the next bundle: the roots that the newest one names.

        Raises:
            FleetError: as `open_trust_bundle`.
        """
        return self.open_trust_bundle().trust_roots

    def _first_roots(self) -> TrustRoots:
        """Read the roots that the fleet was made with."""
        return TrustRoots(
            tuple(self._root(number) for number in range(1, ROOT_COUNT + 1)),
            ROOT_THRESHOLD,
        )

    def _root(self, number: int) -> VerifyKey:
        path = self.path / root_part(number, "pub")
        try:
            key = load_pem_public_key(path.read_bytes())
            return VerifyKey.load(raw_public_key(key, name=path.name))
        except (OSError, ValueError, UnsupportedAlgorithm, ProtocolError):
            raise FleetError(
                f"{path} holds no public key of a root", "bring it back from a backup"
            ) from None

    def trust_bundle(self) -> bytes:
        """Return the signed bundle that new cars are given.

        It is the newest that the present roots signed, as a new car knows no other
        signer yet; what a revoke key took away since then comes to it by the bridge.

        Raises:
            FleetError: as `open_trust_bundle`.
        """
        newest = self.open_trust_bundle()
        for version in range(newest.version, 0, -1):
            data = self._signed_bundle(version)
            with suppress(ProtocolError):
                open_bundle(data, newest.trust_roots, fleet_id=self.fleet.fleet_id)
                return data
        raise FleetError(
            "no trust bundle is signed by the present roots",
            "let the roots sign one: freefloat certs trust extend",
        )

    def open_trust_bundle(self) -> TrustBundle:
        """Verify the signed bundles from the first on, and return the newest.

        Raises:
            FleetError: one is missing, or those who must did not sign it.
        """
        fleet_id, version = self.fleet.fleet_id, 1
        try:
            bundle = open_bundle(
                self._signed_bundle(1), self._first_roots(), fleet_id=fleet_id
            )
            while bundle_path(self.path, version + 1).exists():
                version += 1
                bundle = succeed(
                    bundle, self._signed_bundle(version), fleet_id=fleet_id
                )
        except ProtocolError as error:
            raise FleetError(
                f"{bundle_path(self.path, version)} does not verify: {error}",
                "bring it back from a backup",
            ) from None
        return bundle

    def _signed_bundle(self, version: int) -> bytes:
        path = bundle_path(self.path, version)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise FleetError(
                f"{path} is missing", "bring it back from a backup"
            ) from None

    # --- the authority's own files ---------------------------------------------------

    def books(self) -> Books:
        """Open the authority's books; the caller closes them.

        Raises:
            FleetError: they cannot be used.
        """
        return Books.open(self.path / FleetPart.BOOKS)

    @property
    def audit_log(self) -> AuditLog:
        """Who was given what, and what somebody tried."""
        return AuditLog(self.path / FleetPart.AUDIT)

    # --- vehicles -------------------------------------------------------------------

    def vehicle_directory(self, vehicle_id: VehicleId) -> Path:
        """Return what is copied into one car."""
        return self.path / FleetPart.VEHICLES / str(vehicle_id)

    def record_path(self, vehicle_id: VehicleId) -> Path:
        """Return the file of one car's public record."""
        return self.path / FleetPart.REGISTRY / f"{vehicle_id}.json"

    def vehicle_record(self, vehicle_id: VehicleId) -> VehicleRecord:
        """Read and verify one car's public record.

        Raises:
            OSError: there is none, or it cannot be read.
            FleetError: the issuing CA's certificate is missing or damaged.
            DecodeError: it is no record, or that of another car.
            AuthenticationError: this fleet's CA did not issue it.
        """
        return self._read_record(self.record_path(vehicle_id), vehicle_id)

    def revoked_path(self, vehicle_id: VehicleId) -> Path:
        """Return where the record of a withdrawn car is kept, for evidence."""
        return self.path / FleetPart.REVOKED / f"{vehicle_id}.json"

    def is_revoked(self, vehicle_id: VehicleId) -> bool:
        """Return whether this car was withdrawn."""
        return self.revoked_path(vehicle_id).exists()

    def revoked_record(self, vehicle_id: VehicleId) -> VehicleRecord | None:
        """Read and verify the record of a withdrawn car; None if it was not withdrawn.

        Raises:
            OSError, FleetError, DecodeError, AuthenticationError: as `vehicle_record`.
        """
        try:
            return self._read_record(self.revoked_path(vehicle_id), vehicle_id)
        except FileNotFoundError:
            return None

    def _read_record(self, path: Path, vehicle_id: VehicleId) -> VehicleRecord:
        with path.open("rb") as file:
            data = file.read(RECORD_LIMIT + 1)
        record = VehicleRecord.parse(
            data, fleet_id=self.fleet.fleet_id, issuers=self.issuing_certificates
        )
        if record.vehicle_id != vehicle_id:
            raise DecodeError(
                Code.WRONG_VEHICLE,
                f"the file of {vehicle_id} is the record of {record.vehicle_id}",
            )
        return record

    def vehicle_ids(self) -> list[VehicleId]:
        """Return the registered vehicles, sorted."""
        return self._ids_in(FleetPart.REGISTRY)

    def revoked_ids(self) -> list[VehicleId]:
        """Return the withdrawn vehicles, sorted."""
        return self._ids_in(FleetPart.REVOKED)

    def _ids_in(self, part: FleetPart) -> list[VehicleId]:
        return sorted(
            VehicleId.from_text(path.stem)
            for path in (self.path / part).glob("*.json")
            if VEHICLE_TEXT.fullmatch(path.stem)
        )

    @contextmanager
    def issuing(self, *, wait_s: float = ISSUING_WAIT_S) -> Iterator[Enrolled]:
        """Hold the fleet alone while issuing, and give what is enrolled.

        Args:
            wait_s: patience with another process that issues.

        Raises:
            BusyError: another process has been issuing for longer than that.
            FleetError: the registry is missing or a record in it is damaged.
        """
        registry = self.path / FleetPart.REGISTRY
        if not registry.is_dir():
            raise FleetError(f"{registry} is missing", "bring it back from a backup")
        with exclusive(registry, wait_s=wait_s):
            yield self.enrolled()

    def enrolled(self) -> Enrolled:
        """Read which ids and keys are taken, by withdrawn vehicles too.

        Raises:
            FleetError: a record is damaged.
        """
        paths = [
            *map(self.record_path, self.vehicle_ids()),
            *map(self.revoked_path, self.revoked_ids()),
        ]
        try:
            return enrolled_in(path.read_bytes() for path in paths)
        except (ValueError, ProtocolError) as error:
            raise FleetError(
                f"{self.path / FleetPart.REGISTRY} holds a damaged record: {error}",
                "find it with 'freefloat certs show' and bring it back from a backup",
            ) from None


def bundle_path(fleet: Path, version: int) -> Path:
    """Return where a version of the signed trust bundle lies in a fleet directory."""
    return fleet / FleetPart.TRUST / f"bundle-{version}.bin"


def root_part(number: int, suffix: str) -> str:
    """Return the name of a trust root's file in the fleet directory."""
    return f"{FleetPart.TRUST}/root-{number}.{suffix}"


def _fill(
    directory: Path, fleet: Fleet, hosts: tuple[str, ...], *, now: datetime
) -> None:
    """Write all of a new fleet."""
    for private in ("ca", "broker", "bridge", "bridge/1", "engineer", "engineer/1"):
        make_directory(directory / private, private=True)
    for private in (FleetPart.TRUST, "signer", FleetPart.VEHICLES, "audit"):
        make_directory(directory / private, private=True)
    make_directory(directory / FleetPart.ENROLMENT, private=True)
    make_directory(directory / FleetPart.REGISTRY, private=False)
    make_directory(directory / FleetPart.REVOKED, private=False)

    short = fleet.fleet_id.hex()[:8]
    root = Authority.create_root(f"{fleet.name} root CA {short}", now=now)
    issuing = root.create_issuing(f"{fleet.name} issuing CA {short}", now=now)
    for authority, certificate_part, key_part in (
        (root, FleetPart.ROOT_CERTIFICATE, FleetPart.ROOT_KEY),
        (issuing, FleetPart.ISSUING_CERTIFICATE, FleetPart.ISSUING_KEY),
    ):
        _write(directory, key_part, build_key(authority.key), private=True)
        _write(directory, certificate_part, pem_chain(authority.certificate))
    _write(directory, FleetPart.TRUST_ANCHORS, pem_chain(root.certificate))

    for kind, part, name, names in (
        (Kind.BROKER, FleetPart.BROKER, "ff-broker", hosts),
        (Kind.BRIDGE, FleetPart.BRIDGE, "ff-bridge-1", ()),
        (Kind.ENGINEER, FleetPart.ENGINEER, "ff-engineer-1", ()),
        (Kind.ENROLMENT, FleetPart.ENROLMENT, "ff-enrolment", hosts),
    ):
        key = new_tls_key()
        leaf = issuing.issue(kind, name, key.public_key(), now=now, hosts=names)
        chain = pem_chain(leaf, issuing.certificate)
        _write(directory, f"{part}/{TlsPart.KEY}", build_key(key), private=True)
        _write(directory, f"{part}/{TlsPart.CERTIFICATE}", chain)

    roots = tuple(new_signing_key() for _ in range(ROOT_COUNT))
    for number, trust_root in enumerate(roots, start=1):
        _write_signing_key(directory, root_part(number, "key"), trust_root)
        public = trust_root.verify_key.handle.public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        _write(directory, root_part(number, "pub"), public)
    command, receipt = new_signing_key(), new_signing_key()
    _write_signing_key(directory, FleetPart.COMMAND_KEY, command)
    _write_signing_key(directory, FleetPart.RECEIPT_KEY, receipt)
    bundle = first_bundle(
        fleet.fleet_id,
        command=command,
        receipt=receipt,
        roots=roots,
        now=now,
    )
    # A car will do the same, so a mistake shows here.
    open_bundle(bundle, trust_roots(roots), fleet_id=fleet.fleet_id)
    _write(directory, FleetPart.TRUST_BUNDLE, bundle)
    Books.open(directory / FleetPart.BOOKS).close()
    _write(directory, FleetPart.IDENTITY, build_fleet(fleet))
    for subdirectory, _names, _files in os.walk(directory):
        sync_directory(Path(subdirectory))


def _write(directory: Path, part: str, data: bytes, *, private: bool = False) -> None:
    write_new(directory / part, data, private=private)


def _write_signing_key(directory: Path, part: str, key: Ed25519SigningKey) -> None:
    _write(directory, part, build_key(key.handle), private=True)
