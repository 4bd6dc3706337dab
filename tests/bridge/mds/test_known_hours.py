"""Since when a city is told of everything: what let go of old steps left tells."""

import itertools
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, create_engine

from bridge import schema
from bridge.rows.steps import known_since_ms

numbers = itertools.count()


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    schema.mds_steps.create(engine)
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
