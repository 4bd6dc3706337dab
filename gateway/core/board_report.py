"""What the board's link says, as the core's events.

Both shells around the link use it, that of a real port and that of the emulator, so
that a car cannot be told from an emulated one by its events.
"""

from dataclasses import replace

from gateway.core.events import (
    BoardLost,
    BoardRefusal,
    BoardRefused,
    BoardReported,
    Event,
)
from gateway.core.reading import Reading
from protocol.board.link import BoardSilent, LinkEvent, OrderRefused, StateReceived
from protocol.board.message import (
    AllowEngine,
    RefusalReason,
    Sensors,
    SetLocks,
    State,
)
from protocol.codes import Bits

_ACTUATIONS = (SetLocks, AllowEngine)
_REFUSALS = {
    RefusalReason.DOOR_OPEN: BoardRefusal.DOOR_OPEN,
    RefusalReason.MOVING: BoardRefusal.MOVING,
    RefusalReason.ENGINE_RUNNING: BoardRefusal.ENGINE_RUNNING,
    RefusalReason.LOW_VOLTAGE: BoardRefusal.LOW_VOLTAGE,
    RefusalReason.FAULT: BoardRefusal.FAULT,
}


def reading_of(state: State, sensors: Sensors | None = None) -> Reading:
    """Return the board's report in the core's words.

    Args:
        state: its report.
        sensors: what its slow sensors said last, None if nothing is known.
    """
    reading = _of_state(state)
    if sensors is None:
        return reading
    return replace(
        reading,
        plug=sensors.plug,
        tyres=sensors.tyres,
        tread_dmm=sensors.tread_dmm,
        oil_pct=sensors.oil_pct,
        brake_pct=sensors.brake_pct,
        service_km=sensors.service_km,
        service_days=sensors.service_days,
        trouble_codes=sensors.trouble_codes,
    )


def _of_state(state: State) -> Reading:
    bits = state.bits
    return Reading(
        locked=Bits.LOCKED in bits,
        door_open=Bits.DOOR_OPEN in bits,
        boot_open=Bits.BOOT_OPEN in bits,
        window_open=Bits.WINDOW_OPEN in bits,
        engine_running=Bits.ENGINE_RUNNING in bits,
        engine_released=Bits.ENGINE_RELEASED in bits,
        ignition_on=Bits.IGNITION_ON in bits,
        lights_on=Bits.LIGHTS_ON in bits,
        hazards_on=Bits.HAZARDS_ON in bits,
        key_present=Bits.KEY_PRESENT in bits,
        fuel_card_present=Bits.FUEL_CARD_PRESENT in bits,
        energy_kind=state.energy_kind,
        speed_dkmh=state.speed_dkmh,
        odometer_m=state.odometer_m,
        energy_pct=state.energy_pct,
        washer_pct=state.washer_pct,
        range_km=state.range_km,
        supply_mv=state.supply_mv,
    )


def event_of(said: LinkEvent) -> Event | None:
    """Return the core's event, None for what concerns the link alone.

    A lost order is no event: the core waits for the read-back and judges by it. Nor is
    a refused lamp: it must not fail an unlock that is under way.
    """
    if isinstance(said, StateReceived):
        return BoardReported(reading_of(said.state, said.sensors))
    if isinstance(said, OrderRefused) and isinstance(said.order, _ACTUATIONS):
        of_engine = isinstance(said.order, AllowEngine)
        return BoardRefused(_REFUSALS[said.reason], of_engine)
    if isinstance(said, BoardSilent):
        return BoardLost()
    return None
