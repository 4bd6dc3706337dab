"""The HELLO: what a car says first (protocol-design.md 1.4)."""

from gateway.core.acceptance import JournalRecord
from gateway.core.appearance import snapshot_of
from gateway.core.greeting import build_hello
from gateway.core.ledger import LedgerHead
from gateway.core.repertoire import REPERTOIRE
from gateway.core.state import State
from protocol.codes import ClockQuality, Code, Lane
from protocol.hello import HELLO, LANES_LIMIT, OUTCOMES_LIMIT, Hello
from tests.gateway.core.scene import FIRMWARE, Scene


def _hello(
    state: State,
    *,
    lanes: dict[tuple[bytes, Lane], int] | None = None,
    journal: tuple[JournalRecord, ...] = (),
    head_seq: int = 7,
    receipted: int = 4,
) -> Hello:
    return build_hello(
        state,
        head=LedgerHead(bytes(8), head_seq, b"\x09" * 32),
        receipted=receipted,
        lanes=lanes or {},
        journal=journal,
        bundle_version=3,
        firmware=FIRMWARE,
        storage_free_kib=1_024,
        clock_quality=ClockQuality.RTC,
    )


def test_a_hello_names_what_the_car_knows() -> None:
    # FF-HEL-04, FF-HEL-07.
    scene = Scene()
    scene.reserve()

    hello = _hello(scene.state)

    assert (hello.head_seq, hello.oldest_unreceipted) == (7, 5)
    assert hello.head_hash == b"\x09" * 32
    assert hello.snapshot == snapshot_of(scene.state)
    assert {capability.opcode for capability in hello.capabilities} == set(REPERTOIRE)
    assert {capability.schema for capability in hello.capabilities} == {1}


def test_when_all_is_receipted_the_oldest_is_the_next() -> None:
    # FF-HEL-07.
    assert _hello(State(), head_seq=7, receipted=7).oldest_unreceipted == 8


def test_a_hello_tells_the_last_outcomes_and_no_more() -> None:
    # FF-HEL-05.
    journal = tuple(
        JournalRecord(number.to_bytes(16, "big"), bytes(32), None, Code.IN_PROGRESS)
        for number in range(OUTCOMES_LIMIT + 9)
    )

    hello = _hello(State(), journal=journal)

    assert len(hello.outcomes) == OUTCOMES_LIMIT
    assert hello.outcomes[-1].msg_id == journal[-1].msg_id
    assert hello.outcomes[0].msg_id == journal[9].msg_id
    assert hello.outcomes[0].code is Code.IN_PROGRESS


def test_a_hello_fits_its_frame_at_its_fullest() -> None:
    # FF-HEL-06.
    lanes = {(bytes([key]) * 8, lane): 2**64 - 1 for key in range(9) for lane in Lane}
    journal = (JournalRecord(bytes(16), bytes(32), None, Code.OK),) * 300

    hello = _hello(State(), lanes=lanes, journal=journal)

    assert len(hello.lanes) == LANES_LIMIT
    assert len(HELLO.build(hello)) <= 2_048 - 156
    assert HELLO.parse(HELLO.build(hello)) == hello
