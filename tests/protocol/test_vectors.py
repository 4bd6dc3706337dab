"""The vectors hold, are complete, and hold in a second implementation too."""

import hashlib
import struct
from typing import Any

import nacl.exceptions
import nacl.signing
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocol.codes import Code, EventType, FrameClass, Opcode, SyncType
from protocol.content import parse_content
from protocol.entry import EntryLink, entry_hash
from protocol.errors import AuthenticationError, DecodeError
from protocol.frame import parse_frame
from protocol.identity import VehicleId
from protocol.keys import VerifyKey
from protocol.rendering import fields_of
from protocol.sealing import fuel_card_pin_of, pin_matches, unseal
from protocol.signing import verify_frame
from protocol.succession import succeed
from protocol.trust import TrustRoots, open_bundle, read_body
from tests.protocol import plain_p256
from tests.protocol.vector_file import ACCEPTED, FRAMES, REFUSED, SUCCESSIONS, VECTORS
from tools.published_keys import LEDGER
from tools.vectors import DIRECTORY, content_fields, generate, header_fields

HEADER = struct.Struct(">2sBBBBHBBH16s8s16sQQQ16s")
"""The header of docs/protocol.md, section 2, without construct."""

LABELS = {
    0x01: b"cmd",
    0x02: b"receipt",
    0x03: b"sync",
    0x04: b"trust",
    0x81: b"result",
    0x82: b"event",
    0x83: b"telem",
    0x84: b"hello",
    0x85: b"death",
}


def _unhex(vector: dict[str, Any], name: str) -> bytes:
    return bytes.fromhex(vector[name])


def test_the_generator_makes_the_same_files_byte_for_byte() -> None:
    # FF-EVO-04.
    made = generate()

    on_disk = {
        name: (DIRECTORY / name).read_text(encoding="utf-8")
        for name in made
        if (DIRECTORY / name).exists()
    }
    assert on_disk == made


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_good_vector_verifies_and_decodes_to_its_fields(name: str) -> None:
    # FF-EVO-04, FF-FRM-01.
    vector = VECTORS[name]
    data = _unhex(vector, "frame")
    key = VerifyKey.load(bytes.fromhex(vector["key"]["public"]))

    frame = parse_frame(data)
    verify_frame(frame, fleet_id=_unhex(vector, "fleet_id"), key=key)
    content = parse_content(frame)

    expected = vector["fields"]
    assert {
        "header": header_fields(frame.header),
        **content_fields(content),
    } == expected
    assert len(data) == vector["expected"]["size"]


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_vector_is_refused_at_its_stage_with_its_code(name: str) -> None:
    # FF-RCP-16, FF-TEL-04.
    # FF-FRM-08, FF-FRM-09, FF-FRM-10, FF-FRM-11, FF-FRM-12, FF-FRM-14, FF-FRM-18.
    # K11
    vector = VECTORS[name]

    refusal = _refusal(
        _unhex(vector, "frame"),
        key=VerifyKey.load(bytes.fromhex(vector["key"]["public"])),
        fleet_id=_unhex(vector, "fleet_id"),
    )

    expected = vector["expected"]
    assert refusal == (expected["stage"], expected["code"])


def _refusal(data: bytes, *, key: VerifyKey, fleet_id: bytes) -> tuple[str, str] | None:
    try:
        frame = parse_frame(data)
    except DecodeError as error:
        return "parse", error.code.name
    try:
        verify_frame(frame, fleet_id=fleet_id, key=key)
    except AuthenticationError as error:
        return "verify", error.code.name
    try:
        parse_content(frame)
    except DecodeError as error:
        return "content", error.code.name
    return None


@pytest.mark.parametrize("name", FRAMES)
def test_another_implementation_and_plain_struct_agree(name: str) -> None:
    # FF-FRM-01, FF-KEY-01, FF-SIG-01.
    vector = VECTORS[name]
    if vector["expected"].get("stage") == "parse":
        assert "tbs_hex" not in vector
        return
    data = _unhex(vector, "frame")
    seed = bytes.fromhex(vector["key"]["seed"])
    is_p256 = vector["key"]["suite"] == "P256"
    public = _p256_public(seed) if is_p256 else _ed25519_public(seed)
    key_id = hashlib.sha256(b"ff-key-v1" + public).digest()[:8]
    (magic, version, suite, frame_class, flags, kind, schema, lane, length, vehicle,
     signer, session, seq, mono, wall, msg_id) = HEADER.unpack(data[:92])  # fmt: skip
    tbs = b"\0".join((b"ff-sig-v1", LABELS[frame_class], b"")) + _unhex(
        vector, "fleet_id"
    )

    assert public.hex() == vector["key"]["public"]
    assert key_id.hex() == vector["key"]["key_id"]
    assert (magic, version, length) == (b"FF", 1, len(data) - 156)
    assert (tbs + data[:-64]).hex() == vector["tbs_hex"]
    assert data[-64:].hex() == vector["signature"]
    verifies = plain_p256.holds if is_p256 else _ed25519_holds
    holds = (signer, suite) == (key_id, 2 if is_p256 else 1) and verifies(
        public, data[-64:], tbs + data[:-64]
    )
    assert holds == (vector["expected"].get("stage") != "verify")
    if "fields" in vector:
        assert vector["fields"]["header"] == {
            "suite": vector["key"]["suite"],
            "frame_class": LABELS[frame_class].decode().upper(),
            "flags": flags,
            "type": kind,
            "schema": schema,
            "lane": lane,
            "vehicle_id": vehicle.hex(),
            "key_id": signer.hex(),
            "session_id": session.hex(),
            "seq": seq,
            "mono_ms": mono,
            "wall_ms": wall,
            "msg_id": msg_id.hex(),
        }


def _ed25519_public(seed: bytes) -> bytes:
    return bytes(nacl.signing.SigningKey(seed).verify_key)


def _p256_public(seed: bytes) -> bytes:
    secret = int.from_bytes(seed, "big")
    return plain_p256.compress(plain_p256.times(secret, plain_p256.BASE))


def _ed25519_holds(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        nacl.signing.VerifyKey(public).verify(message, signature)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


def test_the_report_reads_the_same_with_plain_struct() -> None:
    vector = VECTORS["event_rental_ended"]
    body = _unhex(vector, "frame")[92 + 44 : -64]

    read = struct.unpack(">16sB3x32sQQBBBxQQIIIIIBBBBBBHH32s", body)

    fields = vector["fields"]["body"]
    assert read[0].hex() == fields["rental_id"]
    assert read[2].hex() == fields["authority"]
    assert read[3:5] == (fields["started_wall_ms"], fields["ended_wall_ms"])
    numbers = list(fields)[8:22]
    assert numbers[0] == "total_ms"
    assert dict(zip(numbers, read[8:22], strict=True)) == {
        name: fields[name] for name in numbers
    }


def test_every_class_opcode_and_event_type_has_a_vector() -> None:
    headers = [vector["fields"]["header"] for vector in ACCEPTED.values()]
    by_class: dict[str, set[int]] = {}
    for header in headers:
        by_class.setdefault(header["frame_class"], set()).add(header["type"])

    assert by_class.pop("CMD") == {int(opcode) for opcode in Opcode}
    assert by_class.pop("EVENT") == {int(event_type) for event_type in EventType}
    assert by_class.pop("SYNC") == {int(sync_type) for sync_type in SyncType}
    assert set(by_class) == {c.name for c in FrameClass} - {"CMD", "EVENT", "SYNC"}


def test_every_code_that_a_frame_can_cause_has_a_negative_vector() -> None:
    caused = {vector["expected"]["code"] for vector in REFUSED.values()}

    assert caused == {
        code.name
        for code in (
            Code.BAD_MAGIC,
            Code.BAD_VERSION,
            Code.BAD_LEN,
            Code.BAD_CLASS,
            Code.SUITE_FORBIDDEN,
            Code.CRITICAL_FLAG,
            Code.BAD_SIGNATURE,
            Code.UNKNOWN_KEY,
            Code.UNKNOWN_OPCODE,
            Code.UNSUPPORTED_SCHEMA,
            Code.BAD_PARAM,
            Code.NON_CANONICAL,
        )
    }


def test_events_and_stored_results_form_one_chain() -> None:
    # FF-LED-01, FF-LED-02, FF-SIG-16.
    # I-27
    entries = sorted(
        (
            vector
            for vector in ACCEPTED.values()
            if vector["fields"]["link"]
            and vector["fields"]["header"]["seq"]
            and vector["fields"]["link"]["ledger_id"] == LEDGER.hex()
        ),
        key=lambda vector: vector["fields"]["header"]["seq"],
    )

    seqs = [entry["fields"]["header"]["seq"] for entry in entries]
    assert seqs == list(range(1, len(entries) + 1))
    previous = bytes(32)
    for entry in entries:
        assert entry["fields"]["link"]["prev_hash"] == previous.hex()
        previous = entry_hash(_unhex(entry, "frame"))
    head = VECTORS["hello_full"]["fields"]["body"]
    assert (head["head_seq"], head["head_hash"]) == (len(entries), previous.hex())


def test_a_refusal_is_in_no_ledger() -> None:
    # FF-CMD-14.
    frame = parse_frame(_unhex(VECTORS["result_refused"], "frame"))

    link = parse_content(frame).link

    assert frame.header.seq == 0
    assert isinstance(link, EntryLink)
    assert link.prev_hash == bytes(32)


def test_the_trust_bundle_opens_here_and_verifies_with_another_ed25519() -> None:
    # FF-SIG-15.
    vector = VECTORS["trust_bundle"]
    roots = TrustRoots(
        tuple(
            VerifyKey.load(bytes.fromhex(root["public"])) for root in vector["roots"]
        ),
        vector["threshold"],
    )

    bundle = open_bundle(
        _unhex(vector, "bundle"), roots, fleet_id=_unhex(vector, "fleet_id")
    )

    assert fields_of(bundle) == vector["fields"]
    by_id = {root["key_id"]: root["public"] for root in vector["roots"]}
    for entry in vector["signatures"]:
        public = nacl.signing.VerifyKey(bytes.fromhex(by_id[entry["root_key_id"]]))
        public.verify(_unhex(vector, "tbs_hex"), _unhex(entry, "signature"))


@pytest.mark.parametrize("name", SUCCESSIONS)
def test_a_bundle_takes_the_place_of_another_or_is_refused(name: str) -> None:
    # FF-TRU-01, FF-TRU-04, FF-TRU-07, FF-TRU-08, FF-TRU-09, FF-TRU-10, FF-TRU-11,
    # FF-TRU-12, FF-TRU-25
    vector = VECTORS[name]
    fleet_id = _unhex(vector, "fleet_id")
    current = read_body(_unhex(vector, "current"), fleet_id=fleet_id)

    try:
        bundle = succeed(current, _unhex(vector, "bundle"), fleet_id=fleet_id)
    except (AuthenticationError, DecodeError) as error:
        outcome: dict[str, Any] = {"result": "refuse", "code": error.code.name}
    else:
        outcome = {"result": "accept", "version": bundle.version}
        assert fields_of(bundle) == vector["fields"]

    assert outcome == vector["expected"]
    assert name.startswith("bad_") == (outcome["result"] == "refuse")


def test_the_sealed_secrets_open_with_the_published_key() -> None:
    # H6
    vector = VECTORS["sealed_secrets"]
    car = X25519PrivateKey.from_private_bytes(_unhex(vector, "private_key"))

    secrets = unseal(
        _unhex(vector, "sealed"),
        car,
        fleet_id=_unhex(vector, "fleet_id"),
        vehicle_id=VehicleId(_unhex(vector, "vehicle_id")),
        rental_id=_unhex(vector, "rental_id"),
    )

    assert secrets.verifier.hex() == vector["fields"]["verifier"]
    assert pin_matches(secrets, vector["fields"]["pin"])
    assert fuel_card_pin_of(secrets) == vector["fields"]["fuel_card_pin"]
    assert car.public_key().public_bytes_raw().hex() == vector["public_key"]
