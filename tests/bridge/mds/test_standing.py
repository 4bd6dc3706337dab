"""What a city is told of a vehicle is the published state machine's, whatever comes."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.mds.machine import ARCS, OF_TRIPS, MdsState
from bridge.mds.standing import MdsStep, Standing, greeted, happened, heard, lost
from protocol.codes import (
    AccessMeans,
    CancelReason,
    FaultKind,
    PaidBy,
    RentalMode,
)
from protocol.event import (
    AgentStarted,
    EngineStarted,
    EngineStopped,
    EventBody,
    FaultRaised,
    Parked,
    RefuelEnded,
    RefuelStarted,
    RentalStarted,
    ReservationCancelled,
    ReservationExpired,
    ReservationStarted,
    Resumed,
)
from protocol.rental_codes import ResetReason, ServiceModeReason
from protocol.vehicle_event import LedgerReset, ServiceModeChanged
from tests.bridge.car import RENTAL, REPORT
from tests.depth import times

TABLE = Path(__file__).parent / "car_share_states.txt"
OTHER: Final = bytes(reversed(RENTAL))
T0: Final = 1_800_000_000_000


def published() -> set[tuple[str, str, str]]:
    lines = TABLE.read_text().splitlines()
    words = [line.split() for line in lines if not line.startswith("#")]
    return {(w[0], event, w[1]) for w in words for event in w[2:]}


def reserved(rental: bytes = RENTAL) -> EventBody:
    return ReservationStarted(rental, 0, bytes(16))


def opened(rental: bytes = RENTAL) -> EventBody:
    return RentalStarted(rental, AccessMeans.CARD, 1_000, 60, 80, 400)


def started(rental: bytes = RENTAL) -> EventBody:
    return EngineStarted(rental, 1_000)


def stopped(rental: bytes = RENTAL) -> EventBody:
    return EngineStopped(rental, 2_000, 55)


def ended(rental: bytes = RENTAL) -> EventBody:
    return replace(REPORT, rental_id=rental)


def service(*, on: bool) -> EventBody:
    return ServiceModeChanged(on, ServiceModeReason.COMMAND)


class City:
    """Hears what is told of one vehicle."""

    def __init__(self) -> None:
        self.standing = Standing()
        self.steps: list[MdsStep] = []
        self.seq = 0
        self.now = T0
        self.is_fit = True
        self.is_electric = False
        self.greet()

    def take(self, told: tuple[Standing, tuple[MdsStep, ...]]) -> list[str]:
        self.standing, steps = told
        self.steps += steps
        return [f"{step.type}>{step.state}" for step in steps]

    def greet(
        self, mode: RentalMode = RentalMode.AVAILABLE, *, ahead: int = 0
    ) -> list[str]:
        head = self.seq + ahead
        return self.take(
            greeted(
                self.standing,
                mode,
                RENTAL,
                head_seq=head,
                upto=self.seq,
                at_ms=self.now,
                is_fit=self.is_fit,
            )
        )

    def tell(self, *bodies: EventBody | None, at_ms: int | None = None) -> list[str]:
        found = []
        for body in bodies:
            self.seq += 1
            found += self.take(
                happened(
                    self.standing,
                    body,
                    seq=self.seq,
                    at_ms=self.now if at_ms is None else at_ms,
                    is_fit=self.is_fit,
                    is_electric=self.is_electric,
                )
            )
        return found

    def lose(self) -> list[str]:
        return self.take(lost(self.standing, at_ms=self.now))

    def hear(self) -> list[str]:
        return self.take(heard(self.standing, at_ms=self.now, is_fit=self.is_fit))


def test_the_table_is_the_published_one() -> None:
    assert {tuple(map(str, arc)) for arc in ARCS} == published()


def test_a_car_that_says_hello_for_the_first_time_joins_the_fleet() -> None:
    city = City()

    assert [step.type for step in city.steps] == ["recommissioned", "service_start"]
    assert city.standing.shown is MdsState.AVAILABLE


def test_a_rental_is_reserved_opened_driven_parked_driven_and_ended() -> None:
    city = City()

    told = city.tell(
        reserved(),
        opened(),
        started(),
        stopped(),
        Parked(RENTAL, AccessMeans.CARD, 1_500),
        Resumed(RENTAL, AccessMeans.CARD, 60_000),
        started(),
        stopped(),
        ended(),
    )

    assert told == [
        "reservation_start>reserved",
        "reservation_stop>stopped",
        "trip_start>on_trip",
        "trip_stop>stopped",
        "trip_resume>on_trip",
        "trip_stop>stopped",
        "trip_end>available",
    ]
    assert {step.rental_id for step in city.steps[2:]} == {RENTAL}
    assert not any(step.is_inferred for step in city.steps)


def test_a_card_at_a_free_car_is_a_reservation_that_ends_at_once() -> None:
    city = City()

    assert city.tell(opened()) == [
        "reservation_start>reserved",
        "reservation_stop>stopped",
    ]


def test_who_opened_a_car_and_drove_nowhere_made_no_trip() -> None:
    assert City().tell(opened(), ended())[-1] == "customer_cancellation>available"


def test_a_reservation_is_cancelled_by_whom_it_was() -> None:
    expected: dict[EventBody, str] = {
        ReservationExpired(RENTAL): "provider_cancellation>available",
        ReservationCancelled(RENTAL, CancelReason.CUSTOMER): (
            "customer_cancellation>available"
        ),
        ReservationCancelled(RENTAL, CancelReason.OPERATOR): (
            "provider_cancellation>available"
        ),
    }
    for body, last in expected.items():
        assert City().tell(reserved(), body)[-1] == last


def test_a_car_is_fuelled_or_charged_while_it_stands() -> None:
    for is_electric, word in ((False, "fueling"), (True, "charging")):
        city = City()
        city.is_electric = is_electric
        city.tell(opened(), started(), stopped())

        told = city.tell(
            RefuelStarted(RENTAL, 20, 1_000),
            RefuelEnded(RENTAL, 20, 90, PaidBy.FUEL_CARD, refuelled=True),
        )

        assert told == [f"{word}_start>stopped", f"{word}_end>stopped"]


def test_a_fault_takes_a_free_car_out_of_service_and_a_rented_one_after_its_end() -> (
    None
):
    city = City()
    city.is_fit = False
    fault = FaultRaised(FaultKind.READER_GONE)
    assert city.tell(fault) == ["service_end>non_operational"]

    city = City()
    city.tell(opened(), started())
    city.is_fit = False
    assert city.tell(fault) == []
    assert city.tell(stopped(), ended())[-2:] == [
        "trip_end>available",
        "service_end>non_operational",
    ]
    city.is_fit = True
    assert city.tell(None) == ["service_start>available"]


def test_a_technician_at_the_car_is_maintenance() -> None:
    city = City()

    assert city.tell(service(on=True)) == [
        "service_end>non_operational",
        "maintenance>removed",
    ]
    assert city.tell(service(on=False)) == [
        "maintenance_end>non_operational",
        "service_start>available",
    ]


def test_a_handover_ends_one_trip_and_begins_another() -> None:
    city = City()
    city.tell(opened(), started(), stopped())

    assert city.tell(ended(), opened(OTHER)) == [
        "trip_end>available",
        "reservation_start>reserved",
        "reservation_stop>stopped",
    ]
    assert [step.rental_id for step in city.steps[-3:]] == [RENTAL, OTHER, OTHER]


def test_a_car_out_of_contact_comes_back_to_where_it_was() -> None:
    city = City()
    city.tell(reserved())

    assert city.lose() == ["comms_lost>non_contactable"]
    assert city.lose() == []
    assert city.hear() == ["comms_restored>reserved"]
    assert city.hear() == []


def test_what_happened_out_of_contact_is_told_before_the_car_counts_as_back() -> None:
    city = City()
    city.tell(opened(), started())
    city.lose()

    city.now += 600_000
    assert city.greet(ahead=3) == []
    assert city.hear() == []
    told = city.tell(stopped(), ended(), at_ms=T0 + 120_000)

    assert told == [
        "comms_restored>on_trip",
        "trip_stop>stopped",
        "trip_end>available",
    ]
    assert city.steps[-1].at_ms == T0 + 120_000, "not when it came"


def test_a_backlog_that_says_nothing_to_a_city_ends_all_the_same() -> None:
    city = City()
    city.lose()
    city.greet(ahead=1)

    assert city.tell(AgentStarted(2, bytes(4))) == ["comms_restored>available"]


def test_what_was_lost_with_a_ledger_is_inferred_and_marked() -> None:
    city = City()
    city.tell(opened(), started())

    assert city.greet(RentalMode.AVAILABLE) == [
        "trip_stop>stopped",
        "trip_end>available",
    ]
    assert all(step.is_inferred for step in city.steps[-2:])
    assert city.steps[-1].rental_id == RENTAL


def test_a_car_that_begins_another_ledger_has_no_trip_any_more() -> None:
    city = City()
    city.tell(opened(), started())
    city.lose()
    city.seq = 0
    city.greet(ahead=1)

    told = city.tell(LedgerReset(bytes(8), 7, bytes(32), ResetReason.LOST))

    assert told == [
        "comms_restored>on_trip",
        "trip_stop>stopped",
        "trip_end>available",
    ]


def test_each_time_a_car_becomes_free_it_gets_another_name() -> None:
    city = City()
    assert city.standing.rotations == 0
    city.tell(opened(), started(), stopped(), ended())
    city.tell(reserved(), ReservationExpired(RENTAL))
    city.tell(service(on=True), service(on=False))

    assert city.standing.rotations == 2


RENTALS = st.sampled_from((RENTAL, OTHER))
BODIES = st.one_of(
    RENTALS.map(reserved),
    RENTALS.map(opened),
    RENTALS.map(started),
    RENTALS.map(stopped),
    RENTALS.map(ended),
    RENTALS.map(ReservationExpired),
    RENTALS.map(lambda r: RefuelStarted(r, 20, 1_000)),
    RENTALS.map(lambda r: RefuelEnded(r, 20, 90, PaidBy.UNKNOWN, refuelled=True)),
    st.booleans().map(lambda on: service(on=on)),
    st.just(AgentStarted(1, bytes(4))),
    st.none(),
)
ACTIONS = st.one_of(
    BODIES.map(lambda body: ("tell", body)),
    st.sampled_from(RentalMode).map(lambda mode: ("greet", mode)),
    st.integers(1, 3).map(lambda ahead: ("ahead", ahead)),
    st.just(("lose", None)),
    st.just(("hear", None)),
    st.booleans().map(lambda is_fit: ("fit", is_fit)),
    st.integers(-600_000, 600_000).map(lambda ms: ("pass", ms)),
)


@settings(max_examples=times(150, deep=3_000), deadline=None)
@given(st.lists(ACTIONS, max_size=40))
def test_every_step_is_legal_in_time_and_names_its_trip(
    actions: list[tuple[str, object]],
) -> None:
    legal = published()
    city = City()
    for name, value in actions:
        match name, value:
            case "greet", RentalMode() as mode:
                city.greet(mode)
            case "ahead", int() as ahead:
                city.greet(ahead=ahead)
            case "lose", _:
                city.lose()
            case "hear", _:
                city.hear()
            case "fit", _:
                city.is_fit = bool(value)
            case "pass", int() as passed:
                city.now += passed
            case _:
                city.tell(value)  # type: ignore[arg-type] # a body, as ACTIONS say

    before, at_ms = "removed", 0
    for step in city.steps:
        assert (before, str(step.type), str(step.state)) in legal
        assert step.at_ms >= at_ms
        assert (step.rental_id != bytes(16)) is (step.type in OF_TRIPS)
        before, at_ms = str(step.state), step.at_ms
    assert str(city.standing.shown) == before
