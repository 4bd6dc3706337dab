"""An evidence file proves a rental to a stranger, and nothing altered (K13)."""

import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from certs.fleet import FleetDirectory
from protocol.codes import Code, FrameClass, Role
from protocol.command import Unlock
from protocol.errors import AuthenticationError, DecodeError
from protocol.evidence import (
    build_evidence,
    parse_evidence,
    prove_apart,
    verify_evidence,
)
from protocol.fleet import FleetPart
from protocol.frame import parse_frame
from protocol.keyfile import parse_signing_key
from protocol.place import EVENT_PLACE
from protocol.rotation import rotation_message
from protocol.trust import sign_bundle
from protocol.vehicle_event import KeyRotated
from tests.bridge.car import REPORT, Car
from tests.depth import some
from tests.protocol.court import MADE, YEAR_MS, Change, Court, der, pem_der, rental_of
from tools.published_keys import CAR_B_KEY


def test_a_rental_is_proved_whole(court: Court) -> None:
    # S4: by signatures of both sides.
    """K13, FF-EVI-04, FF-EVI-06, FF-EVI-07."""
    exhibit = rental_of(court)

    proved = verify_evidence(build_evidence(exhibit), court.anchors)

    assert [entry.frame.header.seq for entry in proved.entries] == [1, 2, 3]
    assert proved.entries[2].body == REPORT
    assert proved.confirmed_ms == court.now_ms
    assert [place.seq for place in proved.places] == [1]
    assert len(proved.commands) == 1


def test_a_frame_in_no_run_of_entries_is_proved_by_the_same_keys(court: Court) -> None:
    """K13: a command, a refusal outside the ledger; and nothing of an unknown key."""
    whole = rental_of(court)
    exhibit = replace(whole, entries=(), receipt=b"")

    for data in (*whole.commands, whole.entries[0]):
        frame = parse_frame(data)
        prove_apart(frame, exhibit, court.anchors, at_ms=court.now_ms)
    court.car.key = CAR_B_KEY.key
    strange = parse_frame(court.car.event(REPORT))

    with pytest.raises(AuthenticationError) as refused:
        prove_apart(strange, exhibit, court.anchors, at_ms=court.now_ms)
    assert refused.value.code is Code.UNKNOWN_KEY


def test_the_file_is_read_as_it_was_built(court: Court) -> None:
    """FF-EVI-02."""
    exhibit = rental_of(court)
    assert parse_evidence(build_evidence(exhibit)) == exhibit


def test_a_rental_after_the_end_of_the_first_tls_certificate_is_proved(
    court_fleet: FleetDirectory,
) -> None:
    """K13, FF-EVI-05: nothing asks today's date, only the receipt's."""
    court = Court(
        court_fleet, now_ms=int((MADE + timedelta(days=300)).timestamp() * 1000)
    )
    proved = verify_evidence(build_evidence(rental_of(court)), court.anchors)
    assert proved.entries[-1].body == REPORT


def test_every_flipped_bit_is_refused(court: Court) -> None:
    # S5: minutes and distance are in it.
    """K13, FF-EVI-02: bytes over the whole file, a bit each, in turn."""
    data = build_evidence(rental_of(court))
    for index in some(range(len(data)), one_in=7):
        flipped = bytearray(data)
        flipped[index] ^= 1 << index % 8
        with pytest.raises((AuthenticationError, DecodeError)):
            verify_evidence(bytes(flipped), court.anchors)


@pytest.mark.parametrize(
    "part", ["bundles", "entries", "receipt", "commands", "places", "certificates"]
)
def test_a_forger_who_mends_the_digest_is_refused_all_the_same(
    court: Court, part: str
) -> None:
    """K13: what is altered is caught by signatures, the digest only tells damage."""
    exhibit = rental_of(court)
    names = (
        ("issuing_certificate", "signing_certificate")
        if part == "certificates"
        else (part,)
    )
    for name in names:
        value = getattr(exhibit, name)
        whole = value[0] if isinstance(value, tuple) else value
        for index in range(0, len(whole), 23):
            flipped = bytearray(whole)
            flipped[index] ^= 1 << index % 8
            changed: object = bytes(flipped)
            if isinstance(value, tuple):
                changed = (bytes(flipped), *value[1:])
            court.refusal(replace(exhibit, **{name: changed}))  # type: ignore[arg-type] # bytes or a tuple


def test_truncated_and_longer_files_are_refused(court: Court) -> None:
    """FF-EVI-02."""
    data = build_evidence(rental_of(court))
    for cut in (data[:-1], data + b"\n", data[: len(data) // 2], b"", b" " + data):
        with pytest.raises(DecodeError):
            verify_evidence(cut, court.anchors)


def mended(data: bytes, **fields: str) -> bytes:
    """Return a file with other fields, as a forger writes it: the digest is right."""
    document = json.loads(data) | fields | {"digest": ""}
    text = json.dumps(document, separators=(",", ":")) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return text.replace('"digest":""', f'"digest":"{digest}"').encode()


def test_spare_bits_of_base64_are_refused(court: Court) -> None:
    """FF-EVI-02: one value, one text."""
    data = build_evidence(rental_of(court))
    text = json.loads(data)["receipt"]
    assert mended(data) == data
    stem = text.rstrip("=")
    assert stem != text
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    odd = stem[:-1] + alphabet[alphabet.index(stem[-1]) + 1] + text[len(stem) :]
    for wrong, code in ((odd, Code.NON_CANONICAL), ("*", Code.BAD_PARAM)):
        with pytest.raises(DecodeError) as refused:
            parse_evidence(mended(data, receipt=wrong))
        assert refused.value.code is code


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: replace(parts, entries=parts.entries[:1] + parts.entries[2:]),
        lambda parts: replace(parts, entries=parts.entries[::-1]),
        lambda parts: replace(parts, entries=parts.entries[:-1]),
        lambda parts: replace(parts, entries=(*parts.entries, parts.entries[-1])),
    ],
    ids=["one taken out", "order", "the last is not the confirmed one", "one twice"],
)
def test_entries_that_are_no_run_up_to_the_receipt_are_refused(
    court: Court, change: Change
) -> None:
    """FF-EVI-06, FF-EVI-07."""
    court.refusal(change(rental_of(court)))


def test_an_entry_that_does_not_name_the_one_before_is_refused(court: Court) -> None:
    """FF-EVI-06."""
    first = court.car.event(REPORT)
    court.car.head = bytes(32)
    second = court.car.event(REPORT)
    assert court.refusal(court.exhibit(first, second)).args


def test_an_entry_of_another_ledger_is_refused(court: Court) -> None:
    """FF-EVI-06."""
    entry = court.car.event(REPORT)
    other = court.receipt(ledger_id=bytes(8))
    court.refusal(court.exhibit(entry, receipt=other))


def test_a_receipt_must_be_of_a_receipt_key_that_held_then(court: Court) -> None:
    """FF-EVI-07."""
    entry = court.car.event(REPORT)
    by_command_key = court.receipt(court.key(FleetPart.COMMAND_KEY))
    by_nobody = court.receipt(CAR_B_KEY.key)
    too_late = court.receipt(wall_ms=court.now_ms + 3 * YEAR_MS)
    other_hash = court.receipt(head_hash=bytes(32))
    for receipt in (by_command_key, by_nobody, too_late, other_hash):
        court.refusal(court.exhibit(entry, receipt=receipt))


def test_a_command_that_no_result_answers_proves_nothing(court: Court) -> None:
    """FF-EVI-08."""
    command = court.command(Unlock(REPORT.rental_id, 0xFFFF_FFFF))
    entry = court.car.event(REPORT)
    court.refusal(court.exhibit(entry, commands=(command,)))


def test_a_command_must_be_of_a_command_key(court: Court) -> None:
    """FF-EVI-08."""
    receipt_key = court.key(FleetPart.RECEIPT_KEY)
    command = court.command(Unlock(REPORT.rental_id, 0xFFFF_FFFF), receipt_key)
    result = court.car.result(command)
    court.refusal(court.exhibit(result, commands=(command,)))


def test_the_proof_holds_after_the_place_was_erased(court: Court) -> None:
    """K26, FF-EVI-09, FF-PLC-05."""
    exhibit = replace(rental_of(court), places=())
    assert not verify_evidence(build_evidence(exhibit), court.anchors).places


def test_a_place_that_no_entry_is_committed_to_is_refused(court: Court) -> None:
    """FF-EVI-09."""
    exhibit = rental_of(court)
    told = EVENT_PLACE.parse(exhibit.places[0])
    for wrong in (
        replace(told, place=replace(told.place, latitude_e7=481_000_001)),
        replace(told, salt=bytes(16)),
        replace(told, seq=2),
        replace(told, seq=9),
        replace(told, ledger_id=bytes(8)),
    ):
        court.refusal(replace(exhibit, places=(EVENT_PLACE.build(wrong),)))


def test_entries_after_a_rotation_are_proved_by_the_new_key(court: Court) -> None:
    """FF-EVI-04, FF-ENR-15."""
    rotation = court.rotate()
    end = court.car.event(REPORT)
    exhibit = court.exhibit(rotation, end, rotations=(rotation,))
    assert verify_evidence(build_evidence(exhibit), court.anchors).entries

    without = replace(exhibit, rotations=())
    assert isinstance(court.refusal(without), AuthenticationError)


def test_an_entry_after_a_rotation_by_the_old_key_is_refused(court: Court) -> None:
    """FF-EVI-04, FF-ENR-16."""
    old = court.car.key
    rotation = court.rotate()
    court.car.key = old
    end = court.car.event(REPORT)
    refused = court.refusal(court.exhibit(rotation, end, rotations=(rotation,)))
    assert isinstance(refused, AuthenticationError)
    assert refused.code is Code.KEY_EXPIRED


def test_what_is_no_rotation_leads_to_no_key(court: Court) -> None:
    """FF-EVI-04."""
    end = court.car.event(REPORT)
    court.refusal(court.exhibit(end, rotations=(end,)))


def test_a_key_that_was_replaced_does_not_come_back(court: Court) -> None:
    """FF-EVI-04."""
    first_key = court.car.key
    there = court.rotate()
    message = rotation_message(
        fleet_id=court.fleet_id,
        vehicle_id=court.car.id,
        old_key_id=court.car.key.key_id,
        ledger_id=court.car.ledger_id,
        seq=court.car.seq + 1,
    )
    back = court.car.event(
        KeyRotated(first_key.verify_key.raw, first_key.sign(message))
    )
    court.refusal(court.exhibit(there, back, rotations=(there, back)))


def test_the_anchors_decide_and_not_the_file(court: Court, tmp_path: Path) -> None:
    """FF-EVI-01, FF-EVI-03: another fleet's anchors prove nothing of ours."""
    data = build_evidence(rental_of(court))
    other = FleetDirectory.create(tmp_path / "other", name="other", now=MADE)
    root = x509.load_pem_x509_certificate(
        (other.path / FleetPart.ROOT_CERTIFICATE).read_bytes()
    )
    ours = court.anchors
    wrong = (
        replace(ours, fleet_id=other.fleet.fleet_id),
        replace(ours, root_certificates=(root,)),
        replace(ours, trust_roots=other.open_trust_bundle().trust_roots),
    )
    for anchors in wrong:
        with pytest.raises(AuthenticationError):
            verify_evidence(data, anchors)


def test_a_certificate_of_another_vehicle_or_kind_proves_no_key(court: Court) -> None:
    """FF-EVI-03."""
    exhibit = rental_of(court)
    stranger = court.fleet.vehicle_ids()[1]
    record = json.loads(
        (court.fleet.path / FleetPart.REGISTRY / f"{stranger}.json").read_bytes()
    )
    root = der(court.fleet.path / FleetPart.ROOT_CERTIFICATE)
    own = json.loads(
        (court.fleet.path / FleetPart.REGISTRY / f"{court.car.id}.json").read_bytes()
    )
    sealing = pem_der(own["sealing_certificate"].encode())
    for changed in (
        replace(
            exhibit,
            signing_certificate=pem_der(record["signing_certificate"].encode()),
        ),
        replace(exhibit, issuing_certificate=root),
        replace(exhibit, issuing_certificate=exhibit.signing_certificate),
        replace(exhibit, signing_certificate=sealing),
        replace(exhibit, signing_certificate=b"\x30\x00"),
    ):
        court.refusal(changed)


def test_frames_of_other_vehicles_and_classes_are_refused(court: Court) -> None:
    exhibit = rental_of(court)
    hello = court.car.hello()
    stranger = Court(court.fleet, now_ms=court.now_ms)
    stranger.car = Car(
        court.fleet.vehicle_directory(court.fleet.vehicle_ids()[1]),
        boot_ms=lambda: 1_000,
    )
    foreign = stranger.car.event(REPORT)
    court.refusal(replace(exhibit, entries=(hello,)))
    court.refusal(replace(exhibit, entries=(foreign,)))


def test_an_entry_of_a_kind_that_this_version_does_not_know_is_proved_unread(
    court: Court,
) -> None:
    """FF-EVO: the bytes are proof also for a reader that is older than the car."""
    newer = court.car.entry(FrameClass.EVENT, 0x8FFF, b"news")
    proved = verify_evidence(build_evidence(court.exhibit(newer)), court.anchors)
    assert proved.entries[0].body is None
    assert proved.entries[0].frame == parse_frame(newer)


def test_an_entry_that_does_not_parse_proves_nothing(court: Court) -> None:
    broken = court.car.entry(FrameClass.EVENT, 0x810F, b"short")
    assert isinstance(court.refusal(court.exhibit(broken)), DecodeError)


def test_a_later_bundle_counts_if_it_succeeds_the_first(court: Court) -> None:
    """FF-EVI-07: a receipt key that came with bundle 2."""
    first = court.fleet.open_trust_bundle()
    new = CAR_B_KEY.key
    receipt_key = next(key for key in first.keys if key.role is Role.RECEIPT)
    named = replace(receipt_key, public_key=new.verify_key.raw)
    second = replace(first, version=2, keys=(*first.keys, named))
    roots = tuple(
        parse_signing_key(path.read_bytes(), name=path.name)
        for path in sorted((court.fleet.path / FleetPart.TRUST).glob("root-*.key"))
    )
    entry = court.car.event(REPORT)
    receipt = court.receipt(new)
    bundles = (court.fleet.trust_bundle(), sign_bundle(second, roots))

    whole = court.exhibit(entry, receipt=receipt, bundles=bundles)
    assert verify_evidence(build_evidence(whole), court.anchors).receipt.upto == 1

    # FF-EVI-01: who knows other roots than those of the first bundle begins later.
    older = replace(whole, bundles=(sign_bundle(first, (CAR_B_KEY.key,) * 2), *bundles))
    assert verify_evidence(build_evidence(older), court.anchors).receipt.upto == 1

    court.refusal(replace(whole, bundles=bundles[:1]))
    court.refusal(replace(whole, bundles=(bundles[0], sign_bundle(second, roots[:1]))))
