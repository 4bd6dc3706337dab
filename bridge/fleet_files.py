"""The files of a fleet that a bridge reads: identity, registry, trust and keys."""

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from cryptography import x509

from bridge.errors import SettingsError
from bridge.evidence import Archive
from bridge.keyring import KeyFiles
from bridge.ports import WallClock
from bridge.registry import RegistryDirectory
from bridge.settings import Settings
from bridge.signer import require_use
from bridge.trust import TrustDirectory
from bridge.wire import LOG
from keystore.errors import KeystoreError
from keystore.signer import open_signing_key
from keystore.uri import is_token_uri
from protocol.errors import DecodeError
from protocol.fleet import FILE_LIMIT, Fleet, FleetPart, parse_fleet
from protocol.keys import SigningKey

_OPEN_TO_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

CERTIFICATE_LIMIT: Final = 65_536
"""Bytes of a certificate in PEM."""


class SignerKeys(Protocol):
    """The keys of one kind of signer."""

    @property
    def keys(self) -> tuple[SigningKey, ...]:
        """The next key if there is one, then the one in use."""

    def refresh(self) -> bool:
        """Read what changed; return whether anything did. From any thread."""


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """A key that the settings name by a ``pkcs11:`` URI; it has no file to follow."""

    keys: tuple[SigningKey, ...]
    """It, or nothing if this process has none."""

    def refresh(self) -> bool:
        """Do nothing: another key is another URI, and that is a change of settings."""
        return False


@dataclass(frozen=True, slots=True)
class Material:
    """What a bridge has of its fleet; each part follows its files."""

    registry: RegistryDirectory
    """Which vehicles there are."""
    trust: TrustDirectory
    """Which keys cars believe."""
    command_keys: SignerKeys
    """What this replica signs commands with; none if a signer's process does."""
    receipt_keys: SignerKeys
    """What it signs receipts with."""

    def refresh(self) -> tuple[bool, bool]:
        """Read what changed; return whether registry and trust did. Blocks.

        Raises:
            SettingsError: a directory cannot be read; what is known counts on.
        """
        self.command_keys.refresh()
        self.receipt_keys.refresh()
        # Trust first: a registry that cannot be read must not hold a revocation back.
        has_trust = self.trust.refresh()
        return self.registry.refresh(), has_trust


def open_material(settings: Settings, fleet: Fleet, *, now: WallClock) -> Material:
    """Read everything once; blocks.

    Raises:
        SettingsError: a file is missing, open to others or not what it should be.
    """
    fleet_id = fleet.fleet_id
    trust = open_trust(settings, fleet)
    command_keys = TokenKeys(()) if settings.signer else open_command_keys(settings)
    receipt_keys = _signer_keys(
        settings, FleetPart.RECEIPT_KEY, settings.fleet.receipt_key
    )
    if not settings.signer:
        require_use(command_keys.keys, trust.current, receipts=False)
    require_use(receipt_keys.keys, trust.current, receipts=True)
    registry = RegistryDirectory(
        settings.part(FleetPart.REGISTRY, settings.fleet.registry),
        fleet_id=fleet_id,
        issuers=_read_issuers(settings),
        wall_ns=lambda: now() * 1_000_000,
        refused=_complain,
    )
    registry.refresh()
    return Material(registry, trust, command_keys, receipt_keys)


def open_command_keys(settings: Settings) -> SignerKeys:
    """Open the keys that sign commands; blocks.

    Raises:
        SettingsError: the key in use cannot be used.
    """
    return _signer_keys(settings, FleetPart.COMMAND_KEY, settings.fleet.command_key)


def open_trust(settings: Settings, fleet: Fleet) -> TrustDirectory:
    """Read the trust bundles; blocks.

    Raises:
        SettingsError: there is no bundle of this fleet.
    """
    trust = TrustDirectory(
        settings.part(FleetPart.TRUST_BUNDLE, settings.fleet.trust_bundle),
        fleet_id=fleet.fleet_id,
        refused=_complain,
    )
    trust.refresh()
    return trust


def open_archive(settings: Settings, fleet: Fleet) -> Archive:
    """Return where the public parts of evidence lie; reads nothing yet."""
    return Archive(
        fleet_id=fleet.fleet_id,
        issuing_certificate=settings.part(FleetPart.ISSUING_CERTIFICATE),
        registry=settings.part(FleetPart.REGISTRY, settings.fleet.registry),
        bundles=settings.part(
            FleetPart.TRUST_BUNDLE, settings.fleet.trust_bundle
        ).parent,
    )


def read_fleet(settings: Settings) -> Fleet:
    """Return the fleet's identity.

    Raises:
        SettingsError: the directory is none of `freefloat certs init`.
    """
    path = settings.part(FleetPart.IDENTITY)
    try:
        return parse_fleet(read_file(path, FILE_LIMIT))
    except DecodeError as error:
        raise SettingsError(
            f"{path}: {error.detail}",
            advice="name a directory that `freefloat certs init` made",
        ) from error


def _signer_keys(settings: Settings, part: FleetPart, given: str | None) -> SignerKeys:
    if given is not None and is_token_uri(given):
        return TokenKeys((read_key(given),))
    return KeyFiles(settings.part(part, given), read=read_key, refused=_complain)


def read_key(reference: Path | str) -> SigningKey:
    """Return the key in a file that nobody else can read, or in a token.

    Args:
        reference: a path, of a PEM file or of one that holds a ``pkcs11:`` URI; or the
            URI itself.

    Raises:
        SettingsError: it cannot be read, others can read it, or it is no key.
    """
    try:
        return open_signing_key(reference)
    except KeystoreError as error:
        raise SettingsError(str(error), advice=error.advice) from error


def read_secret(path: Path, limit: int) -> bytes:
    """Return a file's beginning, if only its owner can read it.

    Raises:
        SettingsError: it cannot be read, or others can read it too.
    """
    data = read_file(path, limit)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _OPEN_TO_OTHERS:
        raise SettingsError(
            f"{path} has mode {mode:04o}, so other users can read it",
            advice=f"run `chmod 600 {path}`, and replace it if others had access",
        )
    return data


def read_file(path: Path, limit: int) -> bytes:
    """Return at most `limit` bytes of a file.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read: {error.strerror}",
            advice="check path and owner (docs/operations.md, section 4)",
        ) from error


def _read_issuers(settings: Settings) -> list[x509.Certificate]:
    path = settings.part(FleetPart.ISSUING_CERTIFICATE)
    try:
        return x509.load_pem_x509_certificates(read_file(path, CERTIFICATE_LIMIT))
    except ValueError as error:
        raise SettingsError(
            f"{path} is no certificate in PEM",
            advice="name a directory that `freefloat certs init` made",
        ) from error


def _complain(error: SettingsError) -> None:
    LOG.error("= %s", error)
