from dataclasses import replace

import pytest

from protocol.codes import Code, FrameClass, Suite
from protocol.errors import AuthenticationError, DecodeError, EncodeError
from protocol.frame import (
    CLASS_LIMITS,
    FLAG_HISTORICAL,
    OVERHEAD,
    build_unsigned,
    parse_frame,
)
from protocol.signing import (
    request_hash,
    sign_frame,
    to_be_signed,
    verify_frame,
)
from tests.protocol.vector_file import ACCEPTED, frame_of
from tools.published_keys import (
    CAR_A_KEY,
    CAR_B,
    COMMAND_KEY,
    FLEET_ID,
)

UNLOCK = parse_frame(frame_of("cmd_unlock"))


@pytest.mark.parametrize("frame_class", FrameClass)
def test_a_frame_of_exactly_its_class_s_limit_is_built_and_parsed(
    frame_class: FrameClass,
) -> None:
    # FF-FRM-15, FF-LIM-01.
    header = replace(UNLOCK.header, frame_class=frame_class)
    payload = bytes(CLASS_LIMITS[frame_class] - OVERHEAD)

    frame = parse_frame(build_unsigned(header, payload) + bytes(64))

    assert len(frame.data) == CLASS_LIMITS[frame_class]
    with pytest.raises(EncodeError, match="limit"):
        build_unsigned(header, payload + b"\0")


def test_a_critical_flag_is_the_caller_s_fault() -> None:
    header = replace(UNLOCK.header, flags=0x10)

    with pytest.raises(EncodeError, match="critical flags 0x10"):
        build_unsigned(header, b"")


def test_an_unknown_advisory_flag_is_read_and_kept() -> None:
    # FF-FRM-13.
    header = replace(UNLOCK.header, flags=0x0E | FLAG_HISTORICAL)

    frame = parse_frame(build_unsigned(header, UNLOCK.payload) + bytes(64))

    assert frame.header.flags == 0x0F


@pytest.mark.parametrize(
    "changes",
    [{"seq": -1}, {"mono_ms": 1 << 64}, {"key_id": b"short"}, {"type": 0x1_0000}],
    ids=str,
)
def test_a_header_value_that_does_not_fit_is_the_caller_s_fault(
    changes: dict[str, int],
) -> None:
    header = replace(UNLOCK.header, **changes)  # type: ignore[arg-type] # on purpose

    with pytest.raises(EncodeError, match=next(iter(changes))):
        build_unsigned(header, b"")


def test_signing_under_another_key_s_name_is_refused() -> None:
    # FF-SIG-08.
    with pytest.raises(EncodeError, match="header names key"):
        sign_frame(UNLOCK.header, b"", fleet_id=FLEET_ID, key=CAR_A_KEY.key)


def test_a_frame_that_names_another_suite_is_not_signed() -> None:
    # FF-SIG-08.
    header = replace(UNLOCK.header, suite=Suite.P256)

    with pytest.raises(EncodeError, match="suite"):
        sign_frame(header, UNLOCK.payload, fleet_id=FLEET_ID, key=COMMAND_KEY.key)


def test_a_fleet_id_of_another_length_is_the_caller_s_fault() -> None:
    # Bytes that could be fleet id or header would make two frames sign alike.
    with pytest.raises(EncodeError, match="16 bytes, not 15"):
        to_be_signed(FrameClass.CMD, FLEET_ID[:-1], b"")


def test_the_signed_bytes_are_as_the_specification_prints_them() -> None:
    # FF-SIG-01.
    signed = to_be_signed(FrameClass.TELEM, FLEET_ID, b"frame")

    assert signed == b"ff-sig-v1\0telem\0" + FLEET_ID + b"frame"


def test_a_frame_of_the_other_suite_is_refused_by_an_ed25519_key() -> None:
    # FF-SIG-05.
    data = bytearray(UNLOCK.data)
    data[3] = Suite.P256

    with pytest.raises(AuthenticationError) as caught:
        verify_frame(
            parse_frame(bytes(data)), fleet_id=FLEET_ID, key=COMMAND_KEY.key.verify_key
        )

    assert caught.value.code is Code.SUITE_FORBIDDEN
    assert "0x02 P256" in caught.value.detail


@pytest.mark.parametrize("other", FrameClass)
@pytest.mark.parametrize("own", ["cmd_unlock", "receipt_plain", "result_ok"])
def test_no_frame_holds_as_another_class(own: str, other: FrameClass) -> None:
    # FF-SIG-04.
    # protocol-design.md 4: every_class_at_every_receiver
    frame = parse_frame(frame_of(own))
    keys = {ACCEPTED[own]["key"]["key_id"]: bytes.fromhex(ACCEPTED[own]["key"]["seed"])}
    key = type(COMMAND_KEY)("signer", next(iter(keys.values()))).key.verify_key
    if other is frame.header.frame_class:
        verify_frame(frame, fleet_id=FLEET_ID, key=key)
        return
    data = bytearray(frame.data)
    data[4] = other

    with pytest.raises(AuthenticationError) as caught:
        verify_frame(parse_frame(bytes(data)), fleet_id=FLEET_ID, key=key)

    assert caught.value.code is Code.BAD_SIGNATURE


@pytest.mark.parametrize("other", FrameClass)
def test_a_signature_over_one_label_holds_under_no_other(other: FrameClass) -> None:
    # FF-SIG-04.
    # Were the class byte alone to tell them apart, one oversight would be enough.
    unsigned = UNLOCK.data[:-64]
    signature = COMMAND_KEY.key.sign(to_be_signed(other, FLEET_ID, unsigned))
    frame = parse_frame(unsigned + signature)
    key = COMMAND_KEY.key.verify_key

    if other is FrameClass.CMD:
        verify_frame(frame, fleet_id=FLEET_ID, key=key)
    else:
        with pytest.raises(AuthenticationError):
            verify_frame(frame, fleet_id=FLEET_ID, key=key)


def test_a_command_readdressed_to_another_car_is_refused() -> None:
    # K6: cross vehicle
    data = UNLOCK.data[:12] + CAR_B.raw + UNLOCK.data[28:]
    frame = parse_frame(data)

    assert frame.header.vehicle_id == CAR_B
    with pytest.raises(AuthenticationError):
        verify_frame(frame, fleet_id=FLEET_ID, key=COMMAND_KEY.key.verify_key)


def test_two_frames_have_different_request_hashes() -> None:
    # FF-SIG-16.
    assert request_hash(UNLOCK.data) != request_hash(frame_of("cmd_lock"))
    assert len(request_hash(UNLOCK.data)) == 32


def test_errors_say_what_a_caller_may_do() -> None:
    with pytest.raises(DecodeError) as caught:
        parse_frame(b"")

    error = caught.value
    assert (error.retryable, error.may_have_taken_effect) == (False, False)
    assert error.code.local_only
    assert str(error) == "0 bytes, a frame has 156 to 4096 (BAD_LEN)"
