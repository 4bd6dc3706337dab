"""The stored state: read again as it was written, or refused with a reason."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import pytest

from gateway.core.state import PinGuard, State, Tap
from gateway.storage.errors import StoreDamagedError, StoreForeignError
from gateway.storage.state_codec import decode_state, encode_state
from protocol.codes import FaultKind, RentalMode
from tests.gateway.core.scene import Scene

OLD: Final = {
    mode: Path(__file__).parent / "states" / f"format-1-{mode.name.lower()}.json"
    for mode in RentalMode
}
"""What the version before wrote, by mode."""


def test_a_state_survives_its_bytes() -> None:
    state = State(
        mode=RentalMode.RESERVED,
        faults=frozenset({FaultKind.READER_GONE, FaultKind.LOCK_NO_READBACK}),
        tap=Tap(os.urandom(7), 5),
    )

    assert decode_state(encode_state(state)) == state


@pytest.mark.parametrize("mode", list(RentalMode))
def test_the_state_of_every_mode_survives_its_bytes(mode: RentalMode) -> None:
    # I-28
    scene = Scene()
    scene.be(mode)

    assert decode_state(encode_state(scene.state)) == scene.state


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda d: d.replace(b'"version":0', b'"version":"0"'), "other types"),
        (lambda d: d.replace(b'"mode":0', b'"mode":99'), "other types"),
        (lambda d: d.replace(b'"version":0', b'"version":0,"x":1'), "not what"),
        (lambda d: d.replace(b'"tap":null,', b""), "not what"),
        (lambda d: d[:-1], "not readable"),
        (lambda _: b"\xff\xfe", "not readable"),
        (lambda d: d.replace(b"{", b"{ ", 1), "not what"),
    ],
)
def test_bytes_that_are_no_state_are_refused(
    change: Callable[[bytes], bytes], complaint: str
) -> None:
    data = change(encode_state(State()))

    with pytest.raises(StoreDamagedError, match=complaint):
        decode_state(data)


def test_a_state_of_a_newer_gateway_is_not_called_damaged() -> None:
    data = encode_state(State()).replace(b'"format":2', b'"format":3')

    with pytest.raises(StoreForeignError, match="format 3"):
        decode_state(data)


@pytest.mark.parametrize("mode", list(RentalMode))
def test_a_state_of_the_version_before_is_read_and_goes_on(mode: RentalMode) -> None:
    # I-28: an update in the middle of a rental loses nothing of it
    data = OLD[mode].read_bytes()

    state = decode_state(data)

    assert state.mode is mode
    assert (state.rental is not None) is mode.in_rental
    before = msgspec.json.decode(data)["state"]
    after = msgspec.json.decode(encode_state(state))["state"]
    assert {key: after[key] for key in before if before[key] is None} == {
        key: None for key in before if before[key] is None
    }
    assert state.version == before["version"]
    assert decode_state(encode_state(state)) == state
    scene = Scene(state=state)
    scene.start()
    scene.report()
    assert scene.mode in {mode, RentalMode.STOPPED, RentalMode.AVAILABLE}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda d: d.replace(b'"version":', b'"x":1,"version":', 1), "not what"),
        (lambda d: d.replace(b'"mode":', b'"mode":1,"mode":', 1), "not what"),
        (lambda d: d.replace(b'"state":{', b'"state":{ ', 1), "not what"),
        (lambda d: d.replace(b'"cards":[', b'"cards":[7,', 1), "other types"),
        (lambda d: d.replace(b'"low_told":false', b'"low_told":0', 1), "other types"),
    ],
)
def test_a_damaged_state_of_the_version_before_is_refused(
    change: Callable[[bytes], bytes], complaint: str
) -> None:
    data = OLD[RentalMode.PARKED].read_bytes()
    damaged = change(data)
    assert damaged != data

    with pytest.raises(StoreDamagedError, match=complaint):
        decode_state(damaged)


def test_the_pin_guard_is_part_of_what_is_stored() -> None:
    # H6: the counter survives restarts; so it must have a place in the bytes.
    assert PinGuard(wrong=2).wrong == 2
    assert b"wrong" not in encode_state(State())
