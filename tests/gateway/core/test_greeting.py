"""The HELLO: what a car says first (protocol-design.md 1.4)."""

from typing import Final

from gateway.core.appearance import snapshot_of
from gateway.core.authentication import JournalRecord
from gateway.core.configuration import Active
from gateway.core.greeting import build_hello
from gateway.core.known_time import RELEASED_MS, KnownTime
from gateway.core.ledger import LedgerHead
from gateway.core.moment import Moment
from gateway.core.repertoire import REPERTOIRE
from gateway.core.state import State
from protocol.codes import ClockQuality, Code, ConfigKind, HelloFlags, Lane
from protocol.hello import HELLO, LANES_LIMIT, OUTCOMES_LIMIT, ConfigVersion, Hello
from tests.gateway.core.scene import FIRMWARE, Scene

NONCE: Final = b"a nonce of today"
NOW: Final = Moment(60_000, RELEASED_MS + 10**12, ClockQuality.NTP)
FLOOR: Final = KnownTime(RELEASED_MS)


def _hello(
    state: State,
    *,
    lanes: dict[tuple[bytes, Lane], int] | None = None,
    journal: tuple[JournalRecord, ...] = (),
    head_seq: int = 7,
    receipted: int = 4,
    time: KnownTime = FLOOR,
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
        nonce=NONCE,
        group=9,
        flags=HelloFlags.BUNDLE_EXPIRED,
        configurations=(Active(ConfigKind.STATIONS, 4, bytes(32)),),
        time=time,
        now=NOW,
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
    # FF-CFG-09.
    assert hello.configs == (ConfigVersion(ConfigKind.STATIONS, 4),)


def test_a_hello_tells_what_it_was_asked_and_what_to_notice() -> None:
    # FF-SYN-09, FF-TRU-19.
    hello = _hello(State())

    assert hello.nonce == NONCE
    assert hello.group == 9
    assert hello.flags is HelloFlags.BUNDLE_EXPIRED


def test_without_trusted_time_a_hello_says_so_whatever_the_wall_clock_claims() -> None:
    # FF-TIM-04: a time service is not signed.
    hello = _hello(State(), time=FLOOR)

    assert hello.clock_quality is ClockQuality.RTC
    assert hello.trusted_floor_ms == RELEASED_MS


def test_a_hello_tells_who_gave_the_time() -> None:
    told = FLOOR.learn(RELEASED_MS + 5, ClockQuality.SYNC, now=NOW)

    hello = _hello(State(), time=told)

    assert hello.clock_quality is ClockQuality.SYNC
    assert hello.trusted_floor_ms == RELEASED_MS + 5


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
