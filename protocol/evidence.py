"""Evidence: one file that proves what a vehicle said and what its fleet confirmed.

A stranger can check it without a network, also years later (K13, protocol-design.md 3).

The attackers considered: a vehicle's owner who denies or edits an entry; a fleet that
denies having received it, or edits it; anybody in between who exchanges a part. So the
file holds signed bytes only, and whoever verifies it brings the anchors himself: the
fleet's root certificate, its id and its trust roots. Nothing in the file is believed
because it stands there.

What is proved: the fleet's authority bound a signing key to this vehicle; that key (or
one that it handed over to, by KEY_ROTATED) signed a gap-free run of ledger entries;
and a receipt key that the fleet's trust roots had named confirmed that very run at a
time which the fleet itself signed.

Dates are judged at the time of the receipt and never at the time of reading: a
certificate that has expired since still proves what it proved then (clause FF-EVI-05).
"""

import base64
import hashlib
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning

from protocol.anchors import EvidenceAnchors
from protocol.codes import Code, FrameClass, Role
from protocol.content import Body, parse_content
from protocol.enrolment import is_issued_by, require_name
from protocol.entry import GENESIS, EntryLink, entry_hash, split_entry
from protocol.errors import AuthenticationError, DecodeError
from protocol.frame import Frame, parse_frame
from protocol.identity import ID_SIZE, VehicleId
from protocol.json_file import parse_file, parse_hex
from protocol.keyfile import raw_public_key
from protocol.keys import VerifyKey
from protocol.place import EVENT_PLACE, EventPlace, commitment_of
from protocol.receipt import RECEIPT, Receipt
from protocol.result import Result
from protocol.rotation import follow_rotations
from protocol.signing import request_hash, verify_frame
from protocol.succession import succeed
from protocol.trust import TrustBundle, open_bundle

EVIDENCE_FORMAT: Final = 1
"""Revision of the evidence file."""

EVIDENCE_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of an evidence file: `ENTRIES_LIMIT` entries take about 6 MB in base64."""

ENTRIES_LIMIT: Final = 4_096
"""Entries of one file: more than a day of the busiest car (a rental has about 30)."""

LINKS_LIMIT: Final = 256
"""Trust bundles, key rotations, commands or places of one file, each."""

_LAST_MS: Final = 253_402_300_799_999
"""UTC ms: the end of 9999, the last year of a certificate's dates (RFC 5280, 4.1.2.5).
A receipt may be labelled with any u64."""

_Text = Annotated[str, msgspec.Meta(max_length=8_192)]


class EvidenceFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file: canonical JSON, frames and certificates in base64."""

    format: int
    """`EVIDENCE_FORMAT`."""
    fleet_id: str
    """32 hex digits."""
    vehicle_id: str
    """Canonical base32 text."""
    issuing_certificate: _Text
    """DER: the authority that certified the vehicle's signing key."""
    signing_certificate: _Text
    """DER: the vehicle's first signing key, CN = vehicle id."""
    bundles: Annotated[list[_Text], msgspec.Meta(min_length=1, max_length=LINKS_LIMIT)]
    """Signed trust bundles, oldest first; each succeeds the one before."""
    rotations: Annotated[list[_Text], msgspec.Meta(max_length=LINKS_LIMIT)]
    """KEY_ROTATED entries that lead from the certified key to those of the entries."""
    entries: Annotated[
        list[_Text], msgspec.Meta(min_length=1, max_length=ENTRIES_LIMIT)
    ]
    """A gap-free run of one ledger."""
    receipt: _Text
    """A RECEIPT frame up to the last of the entries."""
    commands: Annotated[list[_Text], msgspec.Meta(max_length=LINKS_LIMIT)]
    """CMD frames that results among the entries answer."""
    places: Annotated[list[_Text], msgspec.Meta(max_length=LINKS_LIMIT)]
    """What PLACE frames say to which entries are committed, as far as not erased."""
    digest: str
    """SHA-256 of the file with this field empty: tells damage from forgery."""


@dataclass(frozen=True, slots=True)
class Exhibit:
    """The signed parts of a file, before or after it is one."""

    fleet_id: bytes
    """16 bytes."""
    vehicle_id: VehicleId
    """Whose entries these are."""
    issuing_certificate: bytes
    """DER."""
    signing_certificate: bytes
    """DER."""
    bundles: tuple[bytes, ...]
    """Signed bundles, oldest first."""
    rotations: tuple[bytes, ...]
    """Frames, oldest first."""
    entries: tuple[bytes, ...]
    """Frames in the order of their sequences."""
    receipt: bytes
    """Frame."""
    commands: tuple[bytes, ...] = ()
    """Frames."""
    places: tuple[bytes, ...] = ()
    """Payloads of PLACE frames, 44 bytes each."""


@dataclass(frozen=True, slots=True)
class ProvedEntry:
    """One entry that is proved."""

    frame: Frame
    """Header and bytes."""
    link: EntryLink
    """Its place in the ledger."""
    body: Body | None
    """What it says; None when this version does not know its type."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What a file proves."""

    vehicle_id: VehicleId
    """Who said it."""
    ledger_id: bytes
    """8 bytes."""
    entries: tuple[ProvedEntry, ...]
    """What was said, gap-free."""
    receipt: Receipt
    """What the fleet confirmed."""
    confirmed_ms: int
    """When, UTC ms, by the fleet's signed label."""
    commands: tuple[Frame, ...]
    """Commands that results among the entries answer."""
    places: tuple[EventPlace, ...]
    """Places of those of the entries whose place is not erased."""


def build_evidence(exhibit: Exhibit) -> bytes:
    """Return the file's bytes; `verify_evidence` says whether they prove anything."""
    file = EvidenceFile(
        format=EVIDENCE_FORMAT,
        fleet_id=exhibit.fleet_id.hex(),
        vehicle_id=str(exhibit.vehicle_id),
        issuing_certificate=_text_of(exhibit.issuing_certificate),
        signing_certificate=_text_of(exhibit.signing_certificate),
        bundles=[_text_of(part) for part in exhibit.bundles],
        rotations=[_text_of(part) for part in exhibit.rotations],
        entries=[_text_of(part) for part in exhibit.entries],
        receipt=_text_of(exhibit.receipt),
        commands=[_text_of(part) for part in exhibit.commands],
        places=[_text_of(part) for part in exhibit.places],
        digest="",
    )
    return _canonical(msgspec.structs.replace(file, digest=_digest(file)))


def parse_evidence(data: bytes) -> Exhibit:
    """Read a file's layout; it proves nothing yet.

    Raises:
        DecodeError: not such a file, not its one encoding, or damaged (its digest
            differs); the message names the field.
    """
    file = parse_file(
        data,
        EvidenceFile,
        name="evidence",
        limit=EVIDENCE_LIMIT,
        revision=EVIDENCE_FORMAT,
    )
    if _canonical(file) != data:
        raise DecodeError(
            Code.NON_CANONICAL, "evidence: not the one encoding of what it says"
        )
    if file.digest != _digest(file):
        raise DecodeError(
            Code.BAD_PARAM, "evidence: digest differs, the file is damaged"
        )
    return Exhibit(
        fleet_id=parse_hex(file.fleet_id, ID_SIZE, name="fleet_id"),
        vehicle_id=VehicleId.from_text(file.vehicle_id),
        issuing_certificate=_bytes_of(
            file.issuing_certificate, name="issuing_certificate"
        ),
        signing_certificate=_bytes_of(
            file.signing_certificate, name="signing_certificate"
        ),
        bundles=_parts(file.bundles, "bundles"),
        rotations=_parts(file.rotations, "rotations"),
        entries=_parts(file.entries, "entries"),
        receipt=_bytes_of(file.receipt, name="receipt"),
        commands=_parts(file.commands, "commands"),
        places=_parts(file.places, "places"),
    )


def verify_evidence(data: bytes, anchors: EvidenceAnchors) -> Proof:
    """Return what a file proves to somebody who believes `anchors`.

    Raises:
        DecodeError: some part is not what it should be.
        AuthenticationError: some part is not signed by whom it should be, or parts do
            not belong together. Nothing of the file is proved then.
    """
    exhibit = parse_evidence(data)
    if exhibit.fleet_id != anchors.fleet_id:
        raise AuthenticationError(
            Code.GROUP_MISMATCH,
            f"evidence is of fleet {exhibit.fleet_id.hex()}, "
            f"the anchors are of {anchors.fleet_id.hex()}",
        )
    receipt_frame = parse_frame(exhibit.receipt)
    confirmed_ms = receipt_frame.header.wall_ms
    receipt = _prove_receipt(receipt_frame, exhibit, anchors)
    keys = _prove_keys(exhibit, anchors, confirmed_ms)
    entries = _prove_entries(exhibit, keys, receipt)
    return Proof(
        vehicle_id=exhibit.vehicle_id,
        ledger_id=receipt.ledger_id,
        entries=entries,
        receipt=receipt,
        confirmed_ms=confirmed_ms,
        commands=_prove_commands(exhibit, anchors, entries),
        places=_prove_places(exhibit, entries),
    )


def prove_apart(
    frame: Frame, exhibit: Exhibit, anchors: EvidenceAnchors, *, at_ms: int
) -> None:
    """Prove one frame that stands in no run of entries; its form is not looked at.

    Args:
        frame: a command of the fleet's, or any frame of the vehicle's.
        exhibit: certificates, bundles and rotations; entries and receipt may be empty.
        anchors: what is believed.
        at_ms: when a vehicle's certificate must have held, UTC ms.

    Raises:
        DecodeError: some part is not what it should be.
        AuthenticationError: it is not signed by whom it should be.
    """
    if frame.header.frame_class is FrameClass.CMD:
        _require(frame, exhibit, FrameClass.CMD)
        key = _fleet_key(frame, exhibit, anchors, of_receipt=False)
        verify_frame(frame, fleet_id=anchors.fleet_id, key=key)
        return
    _require(frame, exhibit, FrameClass.EVENT, FrameClass.RESULT, FrameClass.HELLO)
    span = _prove_keys(exhibit, anchors, at_ms).get(frame.header.key_id)
    if span is None:
        raise AuthenticationError(
            Code.UNKNOWN_KEY, f"no rotation leads to key {frame.header.key_id.hex()}"
        )
    verify_frame(frame, fleet_id=anchors.fleet_id, key=span.key)


# -- the fleet's word ------------------------------------------------------------------


def _prove_bundles(
    exhibit: Exhibit, anchors: EvidenceAnchors
) -> tuple[TrustBundle, ...]:
    """Return the bundles from the first that the anchors' roots signed.

    After a change of roots, whoever knows the new ones only begins at the bundle that
    both signed; what older bundles said is then not proved.
    """
    refused: AuthenticationError | None = None
    bundles: list[TrustBundle] = []
    for data in exhibit.bundles:
        if bundles:
            bundles.append(succeed(bundles[-1], data, fleet_id=anchors.fleet_id))
            continue
        try:
            bundles.append(
                open_bundle(data, anchors.trust_roots, fleet_id=anchors.fleet_id)
            )
        except AuthenticationError as error:
            refused = error
    if refused is not None and not bundles:
        raise refused
    return tuple(bundles)


def _fleet_key(
    frame: Frame, exhibit: Exhibit, anchors: EvidenceAnchors, *, of_receipt: bool
) -> VerifyKey:
    """Return the key of a fleet's frame, if the bundles allow that it signed it then.

    A key counts by any of the bundles: revoking it later does not undo what it signed
    within its dates.
    """
    key_id, at_ms = frame.header.key_id, frame.header.wall_ms
    for bundle in _prove_bundles(exhibit, anchors):
        for key in bundle.keys:
            if (
                key.key_id == key_id
                and (key.role is Role.RECEIPT) is of_receipt
                and key.not_before_ms <= at_ms <= key.not_after_ms
            ):
                return VerifyKey.load(key.public_key)
    label = frame.header.frame_class.label
    raise AuthenticationError(
        Code.UNKNOWN_KEY,
        f"no trust bundle of the evidence allows key {key_id.hex()} to sign a {label} "
        "at that time",
    )


def _prove_receipt(frame: Frame, exhibit: Exhibit, anchors: EvidenceAnchors) -> Receipt:
    _require(frame, exhibit, FrameClass.RECEIPT)
    key = _fleet_key(frame, exhibit, anchors, of_receipt=True)
    verify_frame(frame, fleet_id=anchors.fleet_id, key=key)
    return RECEIPT.parse(frame.payload)


def _prove_commands(
    exhibit: Exhibit, anchors: EvidenceAnchors, entries: tuple[ProvedEntry, ...]
) -> tuple[Frame, ...]:
    answered = {
        entry.body.request_hash for entry in entries if isinstance(entry.body, Result)
    }
    frames: list[Frame] = []
    for data in exhibit.commands:
        frame = parse_frame(data)
        _require(frame, exhibit, FrameClass.CMD)
        key = _fleet_key(frame, exhibit, anchors, of_receipt=False)
        verify_frame(frame, fleet_id=anchors.fleet_id, key=key)
        if request_hash(data) not in answered:
            raise AuthenticationError(
                Code.BAD_PARAM,
                f"command {frame.header.msg_id.hex()} is answered by none of the "
                "entries",
            )
        frames.append(frame)
    return tuple(frames)


# -- the vehicle's word ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _KeySpan:
    """A key and the place from which, or up to which, it holds in one ledger."""

    key: VerifyKey
    since: tuple[bytes, int] | None
    until: tuple[bytes, int] | None

    def covers(self, ledger_id: bytes, seq: int) -> bool:
        begins = self.since is None or self.since[0] != ledger_id or seq > self.since[1]
        ends = self.until is None or self.until[0] != ledger_id or seq <= self.until[1]
        return begins and ends


def _prove_keys(
    exhibit: Exhibit, anchors: EvidenceAnchors, confirmed_ms: int
) -> dict[bytes, _KeySpan]:
    key = _certified_key(exhibit, anchors, confirmed_ms)
    since: tuple[bytes, int] | None = None
    spans: dict[bytes, _KeySpan] = {}
    for handover in follow_rotations(
        exhibit.rotations,
        key,
        fleet_id=anchors.fleet_id,
        vehicle_id=exhibit.vehicle_id,
    ):
        place = (handover.ledger_id, handover.seq)
        spans[key.key_id] = _KeySpan(key, since, place)
        key, since = handover.new_key, place
    spans[key.key_id] = _KeySpan(key, since, None)
    return spans


def _certified_key(
    exhibit: Exhibit, anchors: EvidenceAnchors, confirmed_ms: int
) -> VerifyKey:
    issuing = _load(exhibit.issuing_certificate, "issuing")
    signing = _load(exhibit.signing_certificate, "signing")
    if not any(is_issued_by(issuing, root) for root in anchors.root_certificates):
        raise AuthenticationError(
            Code.BAD_SIGNATURE, "issuing certificate is of none of the anchors' roots"
        )
    if not _may_issue(issuing):
        raise AuthenticationError(
            Code.ROLE_FORBIDDEN, "issuing certificate is not one of an authority"
        )
    if not is_issued_by(signing, issuing):
        raise AuthenticationError(
            Code.BAD_SIGNATURE, "signing certificate is not of the issuing authority"
        )
    require_name(signing, exhibit.vehicle_id, name="signing")
    issued_at = signing.not_valid_before_utc
    if not issuing.not_valid_before_utc <= issued_at <= issuing.not_valid_after_utc:
        raise AuthenticationError(
            Code.KEY_EXPIRED, "signing certificate begins outside its issuer's dates"
        )
    at = datetime.fromtimestamp(min(confirmed_ms, _LAST_MS) / 1000, UTC)
    if not issued_at <= at <= signing.not_valid_after_utc:
        raise AuthenticationError(
            Code.KEY_EXPIRED,
            f"signing certificate did not hold at the receipt's time {at:%F %T} UTC",
        )
    try:
        public_key = signing.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise DecodeError(Code.BAD_PARAM, f"signing certificate: {error}") from None
    return VerifyKey.load(raw_public_key(public_key, name="signing certificate"))


def _prove_entries(
    exhibit: Exhibit, keys: dict[bytes, _KeySpan], receipt: Receipt
) -> tuple[ProvedEntry, ...]:
    proved: list[ProvedEntry] = []
    head: bytes | None = None
    for data in exhibit.entries:
        frame = parse_frame(data)
        entry = _prove_entry(frame, exhibit, keys)
        link, seq = entry.link, frame.header.seq
        if link.ledger_id != receipt.ledger_id:
            raise AuthenticationError(
                Code.BAD_PARAM,
                f"entry {seq} is of ledger {link.ledger_id.hex()}, the receipt of "
                f"{receipt.ledger_id.hex()}",
            )
        if proved and seq != proved[-1].frame.header.seq + 1:
            raise AuthenticationError(
                Code.BAD_PARAM,
                f"entry {seq} follows {proved[-1].frame.header.seq}: a gap",
            )
        expected = GENESIS if seq == 1 else head
        if expected is not None and link.prev_hash != expected:
            raise AuthenticationError(
                Code.BAD_PARAM, f"entry {seq} does not name the one before it"
            )
        head = entry_hash(data)
        proved.append(entry)
    last = proved[-1].frame.header.seq
    if receipt.upto != last or receipt.head_hash != head:
        raise AuthenticationError(
            Code.BAD_PARAM,
            f"receipt confirms another entry {receipt.upto} than the last one, {last}",
        )
    return tuple(proved)


def _prove_entry(
    frame: Frame, exhibit: Exhibit, keys: dict[bytes, _KeySpan]
) -> ProvedEntry:
    _require(frame, exhibit, FrameClass.EVENT, FrameClass.RESULT)
    span = keys.get(frame.header.key_id)
    if span is None:
        raise AuthenticationError(
            Code.UNKNOWN_KEY,
            f"entry {frame.header.seq} is signed by key {frame.header.key_id.hex()}, "
            "to which no rotation leads",
        )
    verify_frame(frame, fleet_id=exhibit.fleet_id, key=span.key)
    link, _ = split_entry(frame.payload)
    if not span.covers(link.ledger_id, frame.header.seq):
        raise AuthenticationError(
            Code.KEY_EXPIRED,
            f"entry {frame.header.seq} is signed by a key that did not hold there",
        )
    return ProvedEntry(frame, link, _body_of(frame))


def _prove_places(
    exhibit: Exhibit, entries: tuple[ProvedEntry, ...]
) -> tuple[EventPlace, ...]:
    """Return the places; the commitment in a signed entry proves each."""
    by_seq = {entry.frame.header.seq: entry for entry in entries}
    places: list[EventPlace] = []
    for data in exhibit.places:
        told = EVENT_PLACE.parse(data)
        entry = by_seq.get(told.seq)
        if entry is None or not _is_committed(entry, told, exhibit.vehicle_id):
            raise AuthenticationError(
                Code.BAD_PARAM,
                f"places: entry {told.seq} is not committed to the place that is told",
            )
        places.append(told)
    return tuple(places)


def _is_committed(entry: ProvedEntry, told: EventPlace, vehicle_id: VehicleId) -> bool:
    commitment = getattr(entry.body, "place_commitment", None)
    return told.ledger_id == entry.link.ledger_id and commitment == commitment_of(
        vehicle_id, told
    )


# -- parts -----------------------------------------------------------------------------


def _require(frame: Frame, exhibit: Exhibit, *classes: FrameClass) -> None:
    header = frame.header
    if header.frame_class not in classes:
        raise DecodeError(
            Code.BAD_CLASS, f"class {header.frame_class.label} where it has no place"
        )
    if header.vehicle_id != exhibit.vehicle_id:
        raise AuthenticationError(
            Code.WRONG_VEHICLE, f"a frame of {header.vehicle_id} is among the parts"
        )


def _body_of(frame: Frame) -> Body | None:
    """Return what an entry says; an entry of a newer kind is proved unread."""
    try:
        return parse_content(frame).body
    except DecodeError as error:
        if error.code in {Code.UNKNOWN_OPCODE, Code.UNSUPPORTED_SCHEMA}:
            return None
        raise


def _load(der: bytes, name: str) -> x509.Certificate:
    try:
        with warnings.catch_warnings():
            # What the library only frowns on, such as a serial below 1, RFC 5280
            # forbids; no authority of ours makes it.
            warnings.simplefilter("error", CryptographyDeprecationWarning)
            return x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion, CryptographyDeprecationWarning) as error:
        raise DecodeError(Code.BAD_PARAM, f"{name} certificate: {error}") from None


def _may_issue(certificate: x509.Certificate) -> bool:
    try:
        constraints = certificate.extensions.get_extension_for_class(
            x509.BasicConstraints
        )
    except (ValueError, x509.ExtensionNotFound):
        return False
    return constraints.value.ca


def _parts(texts: list[str], name: str) -> tuple[bytes, ...]:
    return tuple(
        _bytes_of(text, name=f"{name}[{index}]") for index, text in enumerate(texts)
    )


def _text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes_of(text: str, *, name: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise DecodeError(Code.BAD_PARAM, f"{name} is not base64") from None
    if _text_of(data) != text:
        # Base64 has spare bits: one value, one text.
        raise DecodeError(Code.NON_CANONICAL, f"{name} is not canonical base64")
    return data


def _canonical(file: EvidenceFile) -> bytes:
    return msgspec.json.encode(file) + b"\n"


def _digest(file: EvidenceFile) -> str:
    empty = msgspec.structs.replace(file, digest="")
    return hashlib.sha256(_canonical(empty)).hexdigest()
