"""A car's spans: below the bridge's by ids alone, bounded, and nobody's harm."""

from collections.abc import Iterable
from typing import Final

import pytest

from gateway.uplink import journeys
from gateway.uplink.journeys import CARRY_OUT, PUBLISH, RECEIPT, Journeys
from protocol.codes import FrameClass
from protocol.command import ANY_VERSION, Ping, Unlock
from protocol.frame import Header, parse_frame
from protocol.snapshot import NO_RENTAL
from tests.gateway.fleet_end import VEHICLE
from tests.gateway.manual_clock import ManualClock
from tests.gateway.world import ALICE, World
from transport.span import Span, span_id

PING: Final = Ping(NO_RENTAL, ANY_VERSION, bytes(16))


class Told:
    """Keeps what a tracer is given."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def record(self, spans: Iterable[Span]) -> None:
        self.spans += spans

    def of(self, trace_id: bytes) -> dict[str, Span]:
        return {s.name: s for s in self.spans if s.trace_id == trace_id}


def header_of(data: bytes) -> Header:
    return parse_frame(data).header


async def test_a_command_is_told_from_its_arrival_to_its_receipt() -> None:
    told = Told()
    async with World(tracer=told) as world:
        await world.advance(1.0)

        data = world.fleet.send(PING)
        await world.advance(1.0)

        request_id = header_of(data).msg_id
        spans = told.of(request_id)
        assert set(spans) == {CARRY_OUT, PUBLISH, RECEIPT}
        [result] = [
            frame
            for result, frame in world.fleet.answers
            if result.request_id == request_id
        ]
        seq = str(header_of(result).seq)
        assert spans[CARRY_OUT].parent_id == span_id(request_id, "car")
        assert spans[PUBLISH].parent_id == span_id(request_id, "uplink", seq)
        assert spans[RECEIPT].parent_id == span_id(request_id, "command")
        for span in spans.values():
            assert span.start_ms <= span.end_ms
            assert not span.is_error


async def test_a_refused_command_is_told_as_a_failure() -> None:
    told = Told()
    async with World(tracer=told) as world:
        await world.advance(1.0)

        data = world.fleet.send(Unlock(NO_RENTAL, 1))
        await world.advance(1.0)

        spans = told.of(header_of(data).msg_id)
        assert spans[CARRY_OUT].is_error


async def test_each_attempt_to_bring_an_entry_is_told_and_the_first_one_begins_it() -> (
    None
):
    told = Told()
    async with World(tracer=told) as world:
        await world.advance(1.0)
        world.air.held = FrameClass.EVENT
        await world.reserve(ALICE)
        world.present(ALICE)
        await world.advance(1.0)
        world.air.lose()
        world.air.let_go()
        await world.advance(10.0)

        entries = [
            header_of(data).msg_id for data in world.air.frames(FrameClass.EVENT)
        ]
        again = next(each for each in entries if entries.count(each) > 1)
        attempts = [s for s in told.spans if (s.trace_id, s.name) == (again, PUBLISH)]
        assert [span.is_error for span in attempts] == [True, False]
        assert len({span.span_id for span in attempts}) == len(attempts)
        assert {span.parent_id for span in attempts} == {span_id(again, "uplink")}
        receipt = told.of(again)[RECEIPT]
        assert receipt.parent_id == span_id(again, "entry")
        assert receipt.start_ms == attempts[0].start_ms
        assert receipt.attributes["freefloat.attempts"] == 2


async def test_a_car_that_does_not_know_the_time_tells_nothing() -> None:
    told, clock = Told(), ManualClock()
    async with World() as world:
        entry = world.fleet.entries[1]
    silent = Journeys(told, VEHICLE, clock=clock, trusted_ms=lambda _: None)

    silent.handed_over(FrameClass.EVENT, entry)
    silent.published(FrameClass.EVENT, entry, begun_ms=0, is_taken=True)
    silent.receipted(1)

    assert told.spans == []


async def test_a_number_of_another_ledger_is_another_entry() -> None:
    told, clock = Told(), ManualClock()
    async with World() as world:
        first = world.fleet.entries[1]
    other = first.replace(header_of(first).msg_id, bytes(range(16)))
    car = Journeys(told, VEHICLE, clock=clock, trusted_ms=lambda _: 1_000_000)
    car.handed_over(FrameClass.EVENT, first)

    # Nothing is known of it: it was never handed over.
    car.published(FrameClass.EVENT, other, begun_ms=0, is_taken=True)
    assert told.spans == []
    car.published(FrameClass.EVENT, first, begun_ms=0, is_taken=True)
    assert [span.trace_id for span in told.spans] == [header_of(first).msg_id]


def test_what_is_no_frame_is_nothing_and_no_error() -> None:
    told = Told()
    car = Journeys(told, VEHICLE, clock=ManualClock(), trusted_ms=lambda _: 0)

    for frame_class in FrameClass:
        car.arrived(frame_class, b"\xff" * 40)
        car.handed_over(frame_class, b"")
        car.published(frame_class, b"", begun_ms=0, is_taken=True)
    car.receipted(2**63 - 1)

    assert told.spans == []


async def test_no_more_than_its_limits_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journeys, "ENTRIES_LIMIT", 1)
    monkeypatch.setattr(journeys, "COMMANDS_LIMIT", 1)
    async with World() as world:
        await world.reserve(ALICE)
        world.present(ALICE)
        await world.advance(1.0)
        commands = [world.fleet.command(PING) for _ in range(3)]
        entries = [
            data
            for data in world.fleet.entries.values()
            if header_of(data).frame_class is FrameClass.EVENT
        ]
    car = Journeys(Told(), VEHICLE, clock=ManualClock(), trusted_ms=lambda _: 0)

    for data in commands:
        car.arrived(FrameClass.CMD, data)
    for data in entries:
        car.handed_over(FrameClass.EVENT, data)

    assert len(car._commands) == 1
    assert len(entries) > 1
    assert len(car._entries) == 1
