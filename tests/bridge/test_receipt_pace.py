"""Receipts do not crowd a car that catches up, and none is kept from it."""

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bridge.committed import ReceiptDue
from bridge.doubt import Doubt
from bridge.receipt_pace import APART_S, ReceiptPace, Told
from bridge.vehicle import VehicleState
from protocol.codes import Code
from protocol.identity import VehicleId
from protocol.receipt import Gap, Receipt, Reject

CARS = [VehicleId(bytes([number]) * 16) for number in (1, 2, 3)]
LEDGER = b"ledger-of-a-car-"


def told(
    upto: int,
    *,
    car: VehicleId = CARS[0],
    gaps: tuple[Gap, ...] = (),
    ledger_id: bytes = LEDGER,
) -> Told:
    receipt = Receipt(
        ledger_id=ledger_id,
        upto=upto,
        head_hash=bytes(32),
        credit=64,
        gaps=gaps,
        rejects=(),
    )
    return Told(ReceiptDue(car, VehicleState(), receipt))


def uptos(going: list[Told]) -> list[int]:
    return [one.due.receipt.upto for one in going]


def test_one_event_is_confirmed_at_once() -> None:
    pace = ReceiptPace()

    assert uptos(pace.take([told(1)], now_s=10.0)) == [1]
    assert pace.next_s is None


def test_of_what_comes_within_a_tenth_of_a_second_the_last_is_said() -> None:
    pace = ReceiptPace()
    pace.take([told(1)], now_s=10.0)

    assert pace.take([told(2)], now_s=10.01) == []
    assert pace.take([told(5)], now_s=10.02) == []
    assert pace.next_s == 10.0 + APART_S
    assert pace.ripe(now_s=10.05) == []
    assert uptos(pace.ripe(now_s=10.0 + APART_S)) == [5]
    # It was said now: the next one waits again.
    assert pace.take([told(6)], now_s=10.11) == []


def test_a_gap_is_asked_for_at_once_and_what_waited_is_said_with_it() -> None:
    pace = ReceiptPace()
    pace.take([told(1)], now_s=10.0)
    pace.take([told(2)], now_s=10.01)

    going = pace.take([told(2, gaps=(Gap(3, 3),))], now_s=10.02)

    assert [one.due.receipt.gaps for one in going] == [(Gap(3, 3),)]
    assert pace.next_s is None


def test_a_rejected_entry_is_named_though_the_next_receipt_does_not_name_it() -> None:
    pace = ReceiptPace()
    pace.take([told(1)], now_s=10.0)
    receipt = Receipt(
        ledger_id=LEDGER,
        upto=2,
        head_hash=bytes(32),
        credit=64,
        gaps=(),
        rejects=(Reject(2, Code.BAD_HASH),),
    )

    [going] = pace.take(
        [Told(ReceiptDue(CARS[0], VehicleState(), receipt))], now_s=10.01
    )

    assert going.due.receipt.rejects == (Reject(2, Code.BAD_HASH),)


def test_a_car_that_is_doubted_hears_nothing_that_waited() -> None:
    # FF-SYN-10.
    pace = ReceiptPace()
    pace.take([told(1), told(1, car=CARS[1])], now_s=10.0)
    pace.take([told(2), told(2, car=CARS[1])], now_s=10.01)
    doubted = VehicleState(doubt=Doubt(bytes(16), bytes(16), "an older boot"))
    hello = told(1, ledger_id=b"another-ledger--").due

    pace.take([Told(replace(hello, vehicle=doubted))], now_s=10.02)

    left = [one.due.vehicle_id for one in pace.rest()]
    assert left == [CARS[1]]


def test_at_the_end_of_a_link_everything_is_said() -> None:
    pace = ReceiptPace()
    pace.take([told(1), told(1, car=CARS[1])], now_s=10.0)
    pace.take([told(2), told(2, car=CARS[1])], now_s=10.01)

    assert uptos(pace.rest()) == [2, 2]
    assert pace.next_s is None


@given(
    st.lists(
        st.tuples(
            st.integers(0, 60), st.lists(st.sampled_from(CARS), max_size=3, unique=True)
        ),
        max_size=60,
    )
)
def test_no_car_is_crowded_and_each_hears_the_last_in_order(
    batches: list[tuple[int, list[VehicleId]]],
) -> None:
    # FF-RCP-17, FF-AUTH-07, I-22.
    pace, now_ms = ReceiptPace(), 0
    given_: dict[VehicleId, int] = defaultdict(int)
    heard: dict[VehicleId, list[tuple[float, int]]] = defaultdict(list)

    def hear(going: list[Told], now_s: float) -> None:
        for one in going:
            heard[one.due.vehicle_id].append((now_s, one.due.receipt.upto))

    for pause_ms, cars in batches:
        until_ms = now_ms + pause_ms
        while (next_s := pace.next_s) is not None and next_s <= until_ms / 1000:
            hear(pace.ripe(now_s=next_s), next_s)
        now_ms = until_ms
        due = []
        for car in cars:
            given_[car] += 1
            due.append(told(given_[car], car=car))
        hear(pace.take(due, now_s=now_ms / 1000), now_ms / 1000)
    while (next_s := pace.next_s) is not None:
        hear(pace.ripe(now_s=next_s), next_s)

    for car, last in given_.items():
        times = [at_s for at_s, _upto in heard[car]]
        said = [upto for _at_s, upto in heard[car]]
        assert said == sorted(set(said))
        assert said[-1] == last
        pairs = pairwise(times)
        assert all(later - earlier >= APART_S * 0.999 for earlier, later in pairs)
