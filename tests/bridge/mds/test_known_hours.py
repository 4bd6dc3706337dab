"""Since when a city is told of everything: what let go of old steps left tells."""

import itertools
import re
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, create_engine, select

from bridge import schema
from bridge.rows.retention import Ages, Kind, let_go
from bridge.rows.steps import known_since_ms, last_steps
from protocol.identity import VehicleId
from tests.bridge.query_plans import plans_of

numbers = itertools.count()

STEPS = Ages(
    places_ms=0, telemetry_ms=0, events_ms=0, letters_ms=0, steps_ms=10, ahead_ms=100
)


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    schema.metadata.create_all(engine)
    with engine.connect() as found:
        yield found
    engine.dispose()


def happened(connection: Connection, vehicle: str, at_ms: int) -> None:
    connection.execute(
        schema.mds_steps.insert().values(
            event_id=next(numbers).to_bytes(16, "big"),
            vehicle_id=vehicle * 26,
            state="available",
            type="service_start",
            at_ms=at_ms,
            stored_ms=at_ms,
            rental_id=bytes(16),
            ledger_id=bytes(8),
            seq=0,
            is_inferred=False,
            is_electric=False,
        )
    )


def test_of_a_fleet_that_nobody_heard_of_nothing_is_known(
    connection: Connection,
) -> None:
    assert known_since_ms(connection) is None


def test_the_last_step_of_a_car_outlives_its_age_and_says_nothing_of_its_time(
    connection: Connection,
) -> None:
    happened(connection, "A", 1_000)  # its others were let go
    for at_ms in (5_000, 7_000, 9_000):
        happened(connection, "B", at_ms)

    assert known_since_ms(connection) == 5_000


def test_where_only_last_steps_are_left_everything_since_the_newest_is_known(
    connection: Connection,
) -> None:
    happened(connection, "A", 1_000)
    happened(connection, "B", 5_000)

    assert known_since_ms(connection) == 5_000


def test_the_last_step_of_a_car_stays_and_its_others_go(connection: Connection) -> None:
    for vehicle, at_ms in (("A", 1), ("B", 2), ("A", 3), ("A", 40), ("C", 4)):
        happened(connection, vehicle, at_ms)

    gone = let_go(connection, Kind.STEPS, STEPS, ())

    left = connection.execute(
        select(schema.mds_steps.c.at_ms).order_by(schema.mds_steps.c.id)
    )
    assert list(left.scalars()) == [2, 40, 4]
    assert gone == 2


def test_no_step_is_looked_at_that_is_not_asked_for(connection: Connection) -> None:
    """With 600,000 of them 500 took 41 s to let go, in one transaction that writes."""
    for vehicle, at_ms in (("A", 1), ("A", 2), ("A", 40)):
        happened(connection, vehicle, at_ms)

    connection.execute(
        schema.vehicles.insert().values(
            vehicle_id="A" * 26, state=b"", heard_ms=0, is_told_online=False
        )
    )
    car = VehicleId.from_text("A" * 26)

    with plans_of(connection.engine) as plans:
        assert known_since_ms(connection) == 1
        assert last_steps(connection, [car])[car].at_ms == 40
        assert let_go(connection, Kind.STEPS, STEPS, ()) == 2

    of_steps = [p for p in plans if re.search("mds_steps|later|own", p)]
    # The oldest first, and no further than the first that is followed.
    assert of_steps.pop(0) == "SCAN mds_steps USING INDEX mds_steps_at"
    # No step but the last one of a vehicle, of which there are years.
    assert any(p.startswith("SEARCH own USING COVERING INDEX") for p in of_steps)
    assert not any("vehicle" in p for p in of_steps if "SEARCH mds_steps" in p)
    assert len(of_steps) > 5
    assert [p for p in of_steps if not p.startswith("SEARCH ")] == []
