"""Driving: the engine, the level and where the car stands (C13, C14, C16, C18)."""

from gateway.core import actuation, payment, refuelling
from gateway.core.actions import AllowEngine
from gateway.core.appearance import LOW_ENERGY_PCT
from gateway.core.inspection import finish_inspection
from gateway.core.reading import Reading
from gateway.core.stations import station_here
from gateway.core.table import Trigger
from gateway.core.turn import Turn
from protocol.codes import Code, Executed, RentalMode
from protocol.event import EnergyLow, EngineStarted, EngineStopped


def follow_engine(turn: Turn, reading: Reading) -> None:
    """Let a rental follow its engine: driving, and what is asked after it (C16)."""
    mode = turn.state.mode
    if reading.engine_running:
        if mode is RentalMode.STOPPED:
            turn.transit(Trigger.ENGINE_STARTED)
        elif mode is RentalMode.REFUELLING and turn.rental.refuelling is not None:
            refuelling.finish_refuelling(
                turn, turn.rental.refuelling, Trigger.ENGINE_STARTED
            )
        else:
            return
        # A lock that was under way must not end or park a rental that drives off.
        actuation.fail(turn, Code.IGNITION_ON, Executed.MAYBE)
        turn.change_rental(
            driven=True,
            parking_chosen=None,
            reporting=False,
            planning=False,
            station=None,
        )
        turn.hush()
        # Who drives off has taken the car as it was shown: a second driver, or one for
        # whom the fleet released the engine, was not asked for a PIN at boarding.
        finish_inspection(turn)
        turn.record(EngineStarted(turn.rental_id, reading.odometer_m))
    elif mode is RentalMode.DRIVING:
        turn.transit(Trigger.ENGINE_STOPPED)
        turn.record(
            EngineStopped(turn.rental_id, reading.odometer_m, reading.energy_pct)
        )
        note_station(turn)


def restore_engine(turn: Turn) -> None:
    """Bring the engine's release back to what the state says (I-28).

    After a restart, and when the fleet has said who has a car that lost its ledger;
    before that the release stays as it is. It is never withdrawn from an engine that
    runs or a car that moves (I-2).
    """
    state, rental = turn.state, turn.state.rental
    wanted = rental is not None and rental.pin_accepted and not payment.holds(rental)
    unsettled = state.pending is not None or state.is_lost
    if unsettled or state.reading is None or state.reading.engine_released is wanted:
        return
    if wanted or actuation.why_not_hold(state, turn.now.boot_ms) is None:
        turn.act(AllowEngine(released=wanted))


def watch_level(turn: Turn, reading: Reading) -> None:
    """Note the lowest level, and tell once that it is low (C13, C14)."""
    level = reading.energy_pct
    if level is None:
        return
    lowest = turn.rental.lowest_energy_pct
    if lowest is None or level < lowest:
        turn.change_rental(lowest_energy_pct=level)
    if level < LOW_ENERGY_PCT and not turn.rental.low_told:
        turn.change_rental(low_told=True)
        turn.record(EnergyLow(turn.rental_id, level, reading.range_km))


def note_station(turn: Turn) -> None:
    """Note at which station the car stands, as long as nothing else was found.

    Once when the engine stops, and again when a fix comes after it.
    """
    mode, rental = turn.state.mode, turn.state.rental
    stands = mode in {RentalMode.STOPPED, RentalMode.REFUELLING}
    if rental is None or not (stands and rental.driven) or rental.station is not None:
        return
    station = station_here(turn.state, turn.now.boot_ms)
    if station is not None:
        turn.change_rental(station=station.station_id)
