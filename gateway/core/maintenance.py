"""Service needs that the car finds by itself (C29, C30): raised once, cleared once.

Each need has a rule that looks at the board's reading and says: needed, not needed, or
neither. Between the two lies a band in which the need stays as it is, and a verdict
counts only when it has stood for half a minute, so that fluid which slops about, a
starter that pulls the voltage down, or a bend in the road tells nothing to the fleet.
What is not measured is not judged. What the fleet makes of a need is the fleet's (H9);
the driver reads it before the drive.

Seasons need the date and the hemisphere, and the date from somebody who is trusted
(I-29). In April and October either kind of tyre is right, wherever the car is; within
the tropics, whatever the date. Who knows one of both knows the season only then.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from gateway.core.moment import Moment
from gateway.core.prompts import Prompt, PromptKey, term_of
from gateway.core.reading import Reading
from gateway.core.state import State, Suspect
from gateway.core.turn import Turn
from protocol.board.message import Tyres
from protocol.place import E7
from protocol.rental_codes import ServiceKind
from protocol.vehicle_event import ServiceCleared, ServiceNeeded

CONFIRM_MS: Final = 30_000
"""How long a verdict must stand; assumed, longer than any bend or start."""

SERVICE_KM: Final = (500, 1_000)
"""Needed from here down, over from there up: a week of such a car, assumed."""
SERVICE_DAYS: Final = (14, 30)
"""Time to find a date at a workshop, assumed."""
OIL_PCT: Final = (10, 20)
"""Life that is left when cars ask for a change; over after one."""
BRAKE_PCT: Final = (10, 20)
"""Of a pad's thickness; about 2 mm, when wear indicators touch."""
WASHER_PCT: Final = (10, 30)
"""Where cars light their lamp; over when somebody has filled it."""
SUPPLY_MV: Final = (11_900, 12_300)
"""Open circuit of a lead battery: 20 % and 60 % charge."""
TREAD_DMM: Final = (20, 25)
"""Tenths of a millimetre; the law wants 1.6 mm, and a car needs days to be there."""
WINTER_TREAD_DMM: Final = (40, 45)
"""Of winter tyres in winter, as motoring clubs advise."""

TROPIC_E7: Final = round(23.44 * E7)
"""Within the tropics there is no season for tyres."""

_WINTER: Final = frozenset({11, 12, 1, 2, 3})
_SUMMER: Final = frozenset({5, 6, 7, 8, 9})
"""Months of the north; the south has them half a year later."""

_WRONG: Final = {_WINTER: Tyres.SUMMER, _SUMMER: Tyres.WINTER}

Rule = Callable[[State, Reading, Moment], bool | None]
"""Whether service is needed: True, False, or None for neither."""


def watch_upkeep(turn: Turn, reading: Reading) -> None:
    """Judge a reading by every rule; tell what has begun and what is over."""
    for kind, rule in _RULES.items():
        verdict = rule(turn.state, reading, turn.now)
        if verdict is None or verdict is (kind in turn.state.needs):
            _forget(turn, kind)
        elif _is_confirmed(turn, kind):
            _forget(turn, kind)
            _tell(turn, kind, reading, needed=verdict)


def _is_confirmed(turn: Turn, kind: ServiceKind) -> bool:
    """Return whether the verdict has stood long enough; note when it began."""
    now_ms = turn.now.boot_ms
    for suspect in turn.state.suspects:
        if suspect.kind is kind:
            return now_ms - suspect.since_ms >= CONFIRM_MS
    turn.change(suspects=(*turn.state.suspects, Suspect(kind, now_ms)))
    return False


def _forget(turn: Turn, kind: ServiceKind) -> None:
    left = tuple(each for each in turn.state.suspects if each.kind is not kind)
    if left != turn.state.suspects:
        turn.change(suspects=left)


def _tell(turn: Turn, kind: ServiceKind, reading: Reading, *, needed: bool) -> None:
    if not needed:
        turn.change(needs=turn.state.needs - {kind})
        turn.record(ServiceCleared(kind, reading.odometer_m))
        return
    turn.change(needs=turn.state.needs | {kind})
    turn.record(ServiceNeeded(kind, reading.odometer_m))
    if turn.state.rental is not None:
        turn.notify(Prompt(PromptKey.SERVICE_DUE, terms=(term_of(kind),)))


def upkeep_lines(state: State) -> tuple[str, str]:
    """Return what SNAPSHOT says of service: needs that stand, and trouble codes now.

    The ledger tells that there is trouble, once; a workshop wants to know which.
    """
    needs = ",".join(ServiceKind(kind).name for kind in sorted(state.needs))
    codes = () if state.reading is None else state.reading.trouble_codes or ()
    return (
        f"service={needs or '-'}",
        f"trouble={','.join(map(_trouble_text, codes)) or '-'}",
    )


def _trouble_text(code: int) -> str:
    """Return a trouble code as workshops write it, P0301 (SAE J2012)."""
    return f"{'PCBU'[code >> 14]}{code >> 12 & 3}{code & 0xFFF:03X}"


def _falling(value: int | None, band: tuple[int, int]) -> bool | None:
    """Judge a value that is too low at the band's lower end and well at its upper."""
    if value is None:
        return None
    needed_from, over_from = band
    if value <= needed_from:
        return True
    return False if value >= over_from else None


def _periodic(_: State, reading: Reading, __: Moment) -> bool | None:
    """By distance or by time, whatever comes first."""
    verdicts = {
        _falling(reading.service_km, SERVICE_KM),
        _falling(reading.service_days, SERVICE_DAYS),
    }
    if True in verdicts:
        return True
    undecided = None in verdicts and None not in {
        reading.service_km,
        reading.service_days,
    }
    return False if False in verdicts and not undecided else None


def _oil(_: State, reading: Reading, __: Moment) -> bool | None:
    return _falling(reading.oil_pct, OIL_PCT)


def _brakes(_: State, reading: Reading, __: Moment) -> bool | None:
    return _falling(reading.brake_pct, BRAKE_PCT)


def _washer(_: State, reading: Reading, __: Moment) -> bool | None:
    return _falling(reading.washer_pct, WASHER_PCT)


def _battery(_: State, reading: Reading, __: Moment) -> bool | None:
    """At rest only: with the engine on it is the generator that is measured."""
    if reading.engine_running or reading.ignition_on:
        return None
    return _falling(reading.supply_mv, SUPPLY_MV)


def _trouble(_: State, reading: Reading, __: Moment) -> bool | None:
    codes = reading.trouble_codes
    return None if codes is None else bool(codes)


def _tyres(state: State, reading: Reading, now: Moment) -> bool | None:
    """The wrong kind for the season, or too little tread for it."""
    months = _season(state, now)
    if months and reading.tyres is _WRONG[months]:
        return True
    is_winter = months == _WINTER and reading.tyres is Tyres.WINTER
    worn = _falling(reading.tread_dmm, WINTER_TREAD_DMM if is_winter else TREAD_DMM)
    if worn:
        return True
    # A place or a date that is not known, after a start, must not clear a need.
    fits = reading.tyres is Tyres.ALL_SEASON or (
        months is not None and reading.tyres is not Tyres.UNKNOWN
    )
    deep_enough = worn is False or reading.tread_dmm is None
    return False if fits and deep_enough else None


def _season(state: State, now: Moment) -> frozenset[int] | None:
    """Return the months of the season here and now; empty for none, None if unknown."""
    position = state.position
    if position is not None and abs(position.latitude_e7) < TROPIC_E7:
        return frozenset()
    if now.trusted_ms is None:
        return None
    month = datetime.fromtimestamp(now.trusted_ms / 1000, UTC).month
    south = (month + 5) % 12 + 1
    if position is None:
        here = {_months_around(month), _months_around(south)}
        return here.pop() if len(here) == 1 else None
    return _months_around(south if position.latitude_e7 < 0 else month)


def _months_around(month: int) -> frozenset[int]:
    return next((each for each in _WRONG if month in each), frozenset())


_RULES: Final[Mapping[ServiceKind, Rule]] = MappingProxyType(
    {
        ServiceKind.PERIODIC: _periodic,
        ServiceKind.OIL: _oil,
        ServiceKind.BRAKE_PADS: _brakes,
        ServiceKind.SEASONAL_TYRES: _tyres,
        ServiceKind.WASHER_FLUID: _washer,
        ServiceKind.BATTERY: _battery,
        ServiceKind.TROUBLE_CODES: _trouble,
    }
)
"""Every need's rule."""
