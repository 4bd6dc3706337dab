"""The signed word of a second person about one order (K28, adr/0022).

What is signed holds everything that may be done by it: the order's very bytes, the
vehicles, who asked. So a bridge that was taken over can neither make a consent nor use
one for anything else, and whoever approves sees what they sign on their own machine,
read from the bytes that they sign. Pure.
"""

from typing import Annotated, Final

import msgspec

from bridge.approvals import CARRY_OUT_MS, VEHICLES_LIMIT, Approval
from bridge.errors import BridgeError
from protocol.codes import Opcode
from protocol.command import COMMAND_SCHEMA, Command, parse_command
from protocol.errors import ProtocolError
from protocol.identity import ID_SIZE
from protocol.keys import SigningKey, VerifyKey

LONGEST_MS: Final = 86_400_000
"""How long a consent counts at most, whatever it says: so long a signer's log shows
for certain which consents were used."""

CONSENT_LIMIT: Final = 24_576
"""Bytes: a thousand vehicles take 18,000 of them."""

_DOMAIN: Final = b"ff-consent-v1\0"

Id16 = Annotated[bytes, msgspec.Meta(min_length=ID_SIZE, max_length=ID_SIZE)]
Instant = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class ConsentError(BridgeError):
    """These bytes are no consent, or not of whom they say."""


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a second person is asked to let go."""

    fleet_id: Id16
    """Whose vehicles."""
    approval_id: Id16
    """Which approval."""
    opcode: Annotated[int, msgspec.Meta(ge=0, le=65_535)]
    """What is ordered."""
    payload: Annotated[bytes, msgspec.Meta(max_length=1_024)]
    """The order, encoded as in its frame."""
    vehicle_ids: Annotated[
        tuple[Id16, ...], msgspec.Meta(min_length=1, max_length=VEHICLES_LIMIT)
    ]
    """Of which vehicles."""
    asked_by: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
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


class Consent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A statement with the signature of who let it go."""

    statement: Annotated[bytes, msgspec.Meta(max_length=CONSENT_LIMIT)]
    """An encoded `Statement`, as it was signed."""
    decided_ms: Instant
    """When, by the clock of who signed; UTC ms."""
    key_id: Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
    """Names their key."""
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    """64 bytes."""

    def stated(self) -> Statement:
        """Return what it says; proves nothing.

        Raises:
            ConsentError: it is none.
        """
        return parse_statement(self.statement)

    def until_ms(self, statement: Statement) -> int:
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


_STATEMENTS: Final = msgspec.msgpack.Decoder(Statement)
_CONSENTS: Final = msgspec.msgpack.Decoder(Consent)


def statement_of(approval: Approval, fleet_id: bytes) -> bytes:
    """Return what a second person signs to let an order go.

    Empty for what no signer is asked for.
    """
    wanted = approval.wanted
    if wanted.opcode is None:
        return b""
    return msgspec.msgpack.encode(
        Statement(
            fleet_id=fleet_id,
            approval_id=approval.approval_id,
            opcode=int(wanted.opcode),
            payload=wanted.payload,
            vehicle_ids=tuple(vehicle.raw for vehicle in wanted.vehicle_ids),
            asked_by=approval.asked_by,
            expires_ms=approval.expires_ms,
            defer_s=wanted.defer_s,
        )
    )


def parse_statement(data: bytes) -> Statement:
    """Read a statement.

    Raises:
        ConsentError: it is none.
    """
    try:
        found: Statement = _STATEMENTS.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ConsentError("this is no statement") from error
    return found


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


def _signed(statement: bytes, decided_ms: int) -> bytes:
    return _DOMAIN + decided_ms.to_bytes(8, "big") + statement
