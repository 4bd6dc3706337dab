import json

import pytest

from protocol.frame import parse_frame
from protocol.rendering import (
    LINE_LIMIT,
    fields_of,
    render_bytes,
    render_frame,
)
from protocol.trust import SIGNED_BUNDLE, SignedBundle
from tests.protocol.vector_file import ACCEPTED, REFUSED, VECTORS, frame_of
from tools.published_keys import CAR_A, SEALED, SECRETS
from tools.vector_trust import TRUST_BUNDLE

LINES = {
    "cmd_unlock": "CMD 0x0101 UNLOCK lane ACCESS seq 1 176 B  rental 1f2e.., "
    "if version 8",
    "cmd_lock": "CMD 0x0102 LOCK lane ACCESS seq 2 180 B  rental 1f2e.., "
    "lock mode PARK",
    "cmd_reserve": "CMD 0x0201 RESERVE lane RENTAL seq 5 315 B  rental 1f2e.., "
    "if version 7, reserved until 4500.0 s, lock default END, de, 1 card, "
    "109 B sealed",
    "cmd_reserve_bare": "CMD 0x0201 RESERVE lane RENTAL seq 6 190 B  rental 1f2e.., "
    "if version 7, reserved until 4500.0 s, lock default PARK, de, 0 cards, "
    "0 B sealed",
    "cmd_ping": "CMD 0x0401 PING lane DIAGNOSTICS seq 10 192 B  no rental, "
    "nonce 0001..",
    "cmd_handover_request": "CMD 0x0207 HANDOVER_REQUEST lane RENTAL seq 17 244 B  "
    "rental 1f2e.., if version 10, request id 0ffe.., until 4500.0 s, a position, "
    "distance 0.3 km, name of 27 characters",
    "cmd_grant": "CMD 0x0209 GRANT lane RENTAL seq 19 344 B  rental 1f2e.., ADD grant "
    "67a7.. for card 925d.., UNLOCK DRIVE for 24.0 h, 109 B sealed",
    "cmd_show_message": "CMD 0x0302 SHOW_MESSAGE lane SIGNALS seq 21 206 B  "
    "rental 1f2e.., text key 7, 3 arguments, seconds 255",
    "event_damage_reported_bare": "EVENT 0x8117 DAMAGE_REPORTED seq 25 286 B  "
    "rental 1f2e.., place INTERIOR, kind DIRT, photo hash 0000.., "
    "note of 0 characters, no place",
    "place_parked": "TELEM 0x8202 PLACE seq 114 200 B  place of entry 14 of ledger "
    "1ed6..",
    "event_agent_started": "EVENT 0x8114 AGENT_STARTED seq 1 208 B  boot counter 7, "
    "firmware 0.1.0",
    "event_engine_stopped": "EVENT 0x8113 ENGINE_STOPPED seq 10 224 B  rental 1f2e.., "
    "odometer not measured, energy not measured",
    "event_refuel_ended": "EVENT 0x810D REFUEL_ENDED seq 13 220 B  rental 1f2e.., "
    "before 23 %, after 64 %, paid by FUEL_CARD, refuelled",
    "event_rental_started": "EVENT 0x8105 RENTAL_STARTED seq 4 258 B  rental 1f2e.., "
    "by CARD, odometer 48206.1 km, energy 24 %, washer 82 %, range 130 km, "
    "place commitment 1068..",
    "event_rental_ended": "EVENT 0x810F RENTAL_ENDED seq 19 350 B  rental 1f2e.. "
    "14 min driving, 3 min parking, 5.2 km, energy 24 -> 63 %, washer 82 -> 80 %, "
    "by CARD",
    "event_rental_ended_absent": "EVENT 0x810F RENTAL_ENDED seq 20 350 B  "
    "rental 1f2e.. 14 min driving, 3 min parking, distance not measured, "
    "energy ? -> ? %, washer ? -> ? %, by COMMAND, durations estimated",
    "result_refused": "RESULT seq 0 290 B  SESSION_STALE for 0001.., executed MAYBE, "
    "retry AFTER_RESYNC, now STOPPED version 8",
    "telem_absent": "TELEM seq 2 187 B  1 sample, newest AVAILABLE ? km/h, "
    "energy ? %, washer ? %",
    "telem_full": "TELEM seq 3 1057 B historical  30 samples, newest DRIVING "
    "48.7 km/h, energy 23 %, washer 81 %",
    "hello_full": "HELLO seq 2 1046 B  firmware 0.1.0, bundle 1, 22 opcodes, "
    "32 outcomes, ledger 1ed6.. head 42, unreceipted from 20, now STOPPED, "
    "nonce 0001.., BUNDLE_EXPIRED, SERVICE_MODE, LEDGER_WAS_RESET",
    "sync_config_chunk": "SYNC 0x0407 CONFIG_CHUNK seq 4 970 B  kind STATIONS, "
    "version 12, offset 800, 800 B data",
    "sync_time": "SYNC 0x0409 TIME seq 7 164 B  quality NTP",
    "trust_by_revoke": "TRUST seq 2 572 B  bundle 2, 1 signature, 3 keys, 2 revoked, "
    "2 of 3 roots",
    "death_lost": "DEATH seq 1 164 B  reason LOST",
    "receipt_trouble": "RECEIPT seq 2 264 B  ledger 1ed6.. safe up to 4, credit 0, "
    "2 gaps, 2 rejects",
    "bad_unknown_event": "EVENT 0x81FF unknown seq 14 256 B  unreadable: "
    "event type 0x81FF is not known (UNKNOWN_OPCODE)",
    "bad_unknown_type": "HELLO 0x83FF unknown seq 1 294 B  unreadable: "
    "type 0x83FF of class hello (UNKNOWN_OPCODE)",
    "bad_magic": "no frame: begins with 4746, not 4646 (BAD_MAGIC)",
    "bad_empty": "no frame: 0 bytes, a frame has 156 to 4096 (BAD_LEN)",
}


@pytest.mark.parametrize("name", LINES)
def test_a_frame_reads_as_one_line(name: str) -> None:
    assert render_bytes(frame_of(name)) == LINES[name]


@pytest.mark.parametrize("name", [*ACCEPTED, *REFUSED])
def test_every_vector_fits_its_line_without_being_cut(name: str) -> None:
    line = render_bytes(frame_of(name))

    assert line.isprintable()
    assert len(line) < LINE_LIMIT


@pytest.mark.parametrize("name", ACCEPTED)
def test_no_line_shows_sealed_bytes_or_whole_ids(name: str) -> None:
    line = render_bytes(frame_of(name))

    longest = max(len(word) for word in line.replace(",", " ").split())
    assert SEALED.hex()[:8] not in line
    assert longest <= len("INDETERMINATE_AFTER_REBOOT")


def test_a_lane_that_does_not_exist_prints_as_its_number() -> None:
    data = bytearray(frame_of("cmd_ping"))
    data[9] = 99

    assert " lane 99 " in render_frame(parse_frame(bytes(data)))


def test_telemetry_without_samples_says_so() -> None:
    data = bytearray(frame_of("telem_one"))
    empty = data[:10] + b"\0\x01" + data[12:92] + b"\0" + data[-64:]

    assert render_bytes(bytes(empty)).endswith("157 B  no samples")


def test_a_trust_frame_around_something_else_says_so() -> None:
    body = b"not a bundle"
    payload = SIGNED_BUNDLE.build(SignedBundle(body, ()))
    data = bytearray(frame_of("trust_by_roots"))
    data[10:12] = len(payload).to_bytes(2, "big")

    line = render_bytes(bytes(data[:92]) + payload + bytes(64))

    assert "0 signatures under no bundle" in line


def test_a_line_that_would_be_too_long_is_cut() -> None:
    data = bytearray(frame_of("event_rental_ended_absent"))
    distance = 92 + 44 + 16 + 4 + 32 + 16 + 4 + 16 + 8 + 8
    data[distance : distance + 4] = (0xFFFF_FFFE).to_bytes(4, "big")
    data[52:60] = b"\xff" * 8
    minutes = distance - 16
    data[minutes : minutes + 8] = b"\xff" * 8

    line = render_bytes(bytes(data))

    assert len(line) == LINE_LIMIT
    assert line.endswith("..")


def test_records_become_plain_data() -> None:
    fields = fields_of(TRUST_BUNDLE)

    assert json.loads(json.dumps(fields)) == fields
    assert fields["suites"] == ["ED25519", "P256"]
    assert fields["keys"][0]["role"] == "RENTAL"
    assert fields_of(SECRETS)["fuel_card_pin"] == b"9034\0\0\0\0".hex()
    assert fields_of(parse_frame(frame_of("cmd_ping")).header)["vehicle_id"] == {
        "raw": CAR_A.raw.hex()
    }


@pytest.mark.parametrize(
    "name", [n for n in ACCEPTED if "place" in n or "handover" in n]
)
def test_no_line_tells_where_a_car_is(name: str) -> None:
    # K25: lines go to logs; only whoever opens a frame on purpose sees a position
    body = VECTORS[name]["fields"]["body"]
    place = body.get("place", body)

    line = render_bytes(frame_of(name))

    for coordinate in ("latitude_e7", "longitude_e7"):
        digits = str(abs(place.get(coordinate, 0)))
        assert digits in {"0", "1"} or digits[:4] not in line


def test_no_line_tells_what_people_wrote() -> None:
    # K25
    lines = [
        render_bytes(frame_of(name))
        for name in (
            "cmd_handover_request",
            "cmd_show_message",
            "event_damage_reported",
        )
    ]

    for word in ("Zo", "Leopold", "spiegel"):
        assert not any(word in line for line in lines)
