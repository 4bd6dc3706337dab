"""The signed word of a second person about one order or configuration (K28, adr/0022).

What is signed holds everything that may be done by it: the order's very bytes, or the
hash of the configuration; the vehicles; who asked. So a bridge that was taken over can
neither make a consent nor use one for anything else, and whoever approves sees what
they sign on their own machine, read from the bytes that they sign. Pure.
"""

import contextlib
from typing import Annotated, Final

import msgspec

from bridge.approvals import CARRY_OUT_MS, VEHICLES_LIMIT, Approval
from bridge.errors import BridgeError
from protocol.codes import ConfigKind, Opcode
from protocol.command import COMMAND_SCHEMA, Command, parse_command
from protocol.errors import ProtocolError
from protocol.identity import ID_SIZE
from protocol.keys import SigningKey, VerifyKey
from protocol.sync import CONFIG_LIMIT

LONGEST_MS: Final = 86_340_000
"""How long a consent counts at most, whatever it says: so long a signer's log shows
for certain which consents were used, also of an approver whose clock is a minute
ahead."""

CONSENT_LIMIT: Final = 24_576
"""Bytes: a thousand vehicles take 18,000 of them."""

_DOMAIN: Final = b"ff-consent-v1\0"

Id16 = Annotated[bytes, msgspec.Meta(min_length=ID_SIZE, max_length=ID_SIZE)]
Instant = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
VehicleIds = Annotated[
    tuple[Id16, ...], msgspec.Meta(min_length=1, max_length=VEHICLES_LIMIT)
]
Asker = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class ConsentError(BridgeError):
    """These bytes are no consent, or not of whom they say."""


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An order that a second person is asked to let go."""

    fleet_id: Id16
    """Whose vehicles."""
    approval_id: Id16
    """Which approval."""
    opcode: Annotated[int, msgspec.Meta(ge=0, le=65_535)]
    """What is ordered."""
    payload: Annotated[bytes, msgspec.Meta(max_length=1_024)]
    """The order, encoded as in its frame."""
    vehicle_ids: VehicleIds
    """Of which vehicles."""
    asked_by: Asker
    """Who wants it, as the bridge calls them."""
    expires_ms: Instant
    """Until when it may be approved, UTC ms."""
    defer_s: Annotated[int, msgspec.Meta(ge=0, le=86_400)]
    """How long it may wait for a vehicle that is offline."""

    def command(self) -> Command:
        """Return the order.

        Raises:
            ConsentError: it is none.
        """
        try:
            found = parse_command(Opcode(self.opcode), COMMAND_SCHEMA, self.payload)
        except (ProtocolError, ValueError) as error:
            raise ConsentError(f"the statement holds no order: {error}") from error
        return found


class ConfigurationStatement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A configuration that a second person is asked to let go.

    Its fields are others than a `Statement`'s and all of them required, so no bytes are
    both.
    """

    fleet_id: Id16
    """Whose vehicles."""
    approval_id: Id16
    """Which approval."""
    kind: Annotated[int, msgspec.Meta(ge=0, le=255)]
    """`protocol.codes.ConfigKind`."""
    length: Annotated[int, msgspec.Meta(ge=1, le=CONFIG_LIMIT)]
    """Bytes of the whole."""
    sha256: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    """Its hash, which a car compares before it acts by it."""
    vehicle_ids: VehicleIds
    """For which vehicles."""
    asked_by: Asker
    """Who wants it, as the bridge calls them."""
    expires_ms: Instant
    """Until when it may be approved, UTC ms."""

    @property
    def defer_s(self) -> int:
        """How long it may wait for a vehicle that is offline: as long as any consent.

        Later the vehicle counts as one that nobody consented to.
        """
        return LONGEST_MS // 1000

    def config_kind(self) -> ConfigKind:
        """Return what it is about.

        Raises:
            ConsentError: nothing that is known.
        """
        try:
            return ConfigKind(self.kind)
        except ValueError:
            raise ConsentError(
                f"the statement is of configuration {self.kind}, which is none"
            ) from None


Stated = Statement | ConfigurationStatement
"""What a consent is to."""


class Consent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A statement with the signature of who let it go."""

    statement: Annotated[bytes, msgspec.Meta(max_length=CONSENT_LIMIT)]
    """An encoded `Stated`, as it was signed."""
    decided_ms: Instant
    """When, by the clock of who signed; UTC ms."""
    key_id: Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
    """Names their key."""
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    """64 bytes."""

    def stated(self) -> Stated:
        """Return what it says; proves nothing.

        Raises:
            ConsentError: it is none.
        """
        return parse_statement(self.statement)

    def until_ms(self, statement: Stated) -> int:
        """Return the last instant at which it counts, UTC ms."""
        life_ms = CARRY_OUT_MS + statement.defer_s * 1000
        return self.decided_ms + min(life_ms, LONGEST_MS)

    def require_of(self, key: VerifyKey) -> None:
        """Check the signature.

        Raises:
            ConsentError: it is not of this key.
        """
        try:
            key.verify(self.signature, _signed(self.statement, self.decided_ms))
        except ProtocolError as error:
            raise ConsentError("its signature does not hold") from error


_ORDERS: Final = msgspec.msgpack.Decoder(Statement)
_CONFIGURATIONS: Final = msgspec.msgpack.Decoder(ConfigurationStatement)
_CONSENTS: Final = msgspec.msgpack.Decoder(Consent)


def statement_of(approval: Approval, fleet_id: bytes) -> bytes:
    """Return what a second person signs to let an order or configuration go.

    Empty for what no signer is asked for.
    """
    wanted = approval.wanted
    vehicle_ids = tuple(vehicle.raw for vehicle in wanted.vehicle_ids)
    if wanted.configuration is not None:
        return msgspec.msgpack.encode(
            ConfigurationStatement(
                fleet_id=fleet_id,
                approval_id=approval.approval_id,
                kind=int(wanted.configuration.kind),
                length=len(wanted.configuration.body),
                sha256=wanted.configuration.sha256,
                vehicle_ids=vehicle_ids,
                asked_by=approval.asked_by,
                expires_ms=approval.expires_ms,
            )
        )
    if wanted.opcode is None:
        return b""
    return msgspec.msgpack.encode(
        Statement(
            fleet_id=fleet_id,
            approval_id=approval.approval_id,
            opcode=int(wanted.opcode),
            payload=wanted.payload,
            vehicle_ids=vehicle_ids,
            asked_by=approval.asked_by,
            expires_ms=approval.expires_ms,
            defer_s=wanted.defer_s,
        )
    )


def parse_statement(data: bytes) -> Stated:
    """Read a statement.

    Raises:
        ConsentError: it is none.
    """
    for decoder in (_ORDERS, _CONFIGURATIONS):
        with contextlib.suppress(msgspec.DecodeError, ValueError, RecursionError):
            found: Stated = decoder.decode(data)
            return found
    raise ConsentError("this is no statement")


def consent_to(statement: bytes, key: SigningKey, *, now: int) -> Consent:
    """Sign a statement; whoever calls has shown it to the person whose key it is."""
    signature = key.sign(_signed(statement, now))
    return Consent(statement, now, key.key_id, signature)


def build_consent(consent: Consent) -> bytes:
    """Return the bytes that `parse_consent` reads."""
    return msgspec.msgpack.encode(consent)


def parse_consent(data: bytes) -> Consent:
    """Read a consent; proves nothing.

    Raises:
        ConsentError: it is none.
    """
    try:
        found: Consent = _CONSENTS.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ConsentError("this is no consent") from error
    return found


def counts_still(consent: bytes, *, now: int) -> bool:
    """Return whether it is worth while to show a consent to a signer.

    Args:
        consent: as `parse_consent` reads it; empty for none.
        now: UTC ms.
    """
    try:
        found = parse_consent(consent)
        return now <= found.until_ms(found.stated())
    except ConsentError:
        return False


def _signed(statement: bytes, decided_ms: int) -> bytes:
    return _DOMAIN + decided_ms.to_bytes(8, "big") + statement
