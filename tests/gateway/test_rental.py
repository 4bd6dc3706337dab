"""A rental as the gateway lives it: real runtime, core, store and uplink."""

from gateway.core.prompts import Choice, PromptKey
from protocol.codes import Code, Light, LockMode, RentalMode
from protocol.command import ANY_VERSION, Lock, Unlock
from protocol.event import (
    AccessGranted,
    AgentStarted,
    EngineReleased,
    EngineStarted,
    EngineStopped,
    Parked,
    PinAccepted,
    RentalEnded,
    RentalStarted,
    ReservationStarted,
    Resumed,
)
from protocol.rental_event import InspectionDone
from tests.gateway.world import ALICE, MALLORY, PIN, World


async def test_a_rental_runs_from_reservation_to_the_receipted_report() -> None:
    # C12, C24, C26, C27: card, PIN, drive, parking by card, return, end, report.
    async with World() as world:
        assert world.board.light == (Light.GREEN, False)
        await world.begin_rental()
        assert world.board.light == (Light.RED, False)
        world.display.type_pin(PIN)
        await world.advance(1.0)
        assert world.board.car.engine_released
        world.board.change(engine_running=True, ignition_on=True, speed_dkmh=300)
        await world.advance(60.0)
        world.board.change(
            engine_running=False, ignition_on=False, speed_dkmh=0,
            odometer_m=12_004_000, energy_pct=78, washer_pct=55,
        )  # fmt: skip
        await world.advance(1.0)
        world.display.choose(Choice.PARK)
        await world.advance(1.0)
        world.present(ALICE)
        await world.advance(90.0)
        assert world.state.mode is RentalMode.PARKED
        world.present(ALICE)
        await world.advance(1.0)
        await world.end_rental()

        assert world.events() == [
            AgentStarted,
            ReservationStarted,
            AccessGranted,
            RentalStarted,
            InspectionDone,
            PinAccepted,
            EngineReleased,
            EngineStarted,
            EngineStopped,
            AccessGranted,
            Parked,
            AccessGranted,
            Resumed,
            AccessGranted,
            RentalEnded,
        ]
        (report,) = world.reports()
        assert report.distance_m == 4_000
        assert (report.start_washer_pct, report.end_washer_pct) == (60, 55)
        assert report.parking_min == 2
        assert world.board.light == (Light.GREEN, False)
        assert await world.kept() == []


async def test_a_wrong_card_opens_nothing() -> None:
    # I-12.
    async with World() as world:
        await world.reserve(ALICE)

        world.present(MALLORY)
        await world.advance(1.0)

        assert world.board.locked
        assert "unlock" not in world.board.orders


async def test_a_wrong_pin_releases_nothing_and_the_right_one_does() -> None:
    # C11, H6.
    async with World() as world:
        await world.begin_rental()

        world.display.type_pin("0000")
        await world.advance(1.0)
        assert not world.board.car.engine_released
        assert world.display.prompt.key is PromptKey.PIN_WRONG
        world.display.type_pin(PIN)
        await world.advance(1.0)

        assert world.board.car.engine_released


async def test_commands_are_answered_after_the_board_has_read_back() -> None:
    async with World() as world:
        rental_id = await world.reserve(ALICE)

        unlock = world.fleet.send(Unlock(rental_id, ANY_VERSION))
        await world.advance(1.0)
        lock = world.fleet.send(Lock(rental_id, ANY_VERSION, LockMode.END))
        await world.advance(1.0)

        assert world.fleet.codes_of(unlock) == [Code.OK]
        assert world.fleet.codes_of(lock) == [Code.OK]
        assert world.board.locked
        assert len(world.reports()) == 1
