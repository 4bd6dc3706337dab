"""Words of scripts for what must be seen: ``expect light red``, ``never unlocked``.

``expect`` waits for something and fails with its name if it does not come. ``never``
watches for `NEVER_S` and fails if it comes. An entry may be looked at more closely,
and so may what came to the fleet:
``expect entry RentalEnded distance_m=120 refuel_gain_pct>=10``,
``expect sent Telemetry mode=available``.
"""

import re
from collections.abc import Callable
from enum import Enum
from typing import Final

from firmware_emulator.errors import StepError
from firmware_emulator.saying import Deed, Stage, Verb
from firmware_emulator.script import (
    STEP_TIMEOUT_S,
    Expectation,
    bolts,
    light,
    prompt,
    starter,
)
from gateway.core.prompts import LineKey, PromptKey
from protocol.codes import Code, Light
from protocol.event import EVENTS, EventBody

NEVER_S: Final = 3.0
"""How long `never` watches: an unlock takes 0.15 s, a refusal blinks for 2 s."""

_COLOURS: Final = {colour.name.lower(): colour for colour in Light}
_ENTRIES: Final[dict[str, type[EventBody]]] = {
    layout.record.__name__.lower(): layout.record for layout in EVENTS.values()
}
_FIELD: Final = re.compile(r"([a-z0-9_]+)(=|>=|<=)([a-z0-9_.-]+)")


Holds = Callable[[Stage], bool]
Watched = tuple[str, Holds]
"""What to say of it, and whether it is so."""


def _read_expect(rest: list[str]) -> Deed:
    what, holds = _watched([word.lower() for word in rest])

    async def deed(stage: Stage) -> None:
        await stage.vehicle.devices.witness.until(
            lambda: holds(stage), timeout_s=STEP_TIMEOUT_S, missing=what
        )

    return deed


def _read_never(rest: list[str]) -> Deed:
    what, holds = _watched([word.lower() for word in rest])

    async def deed(stage: Stage) -> None:
        try:
            await stage.vehicle.devices.witness.until(
                lambda: holds(stage), timeout_s=NEVER_S, missing=what
            )
        except StepError:
            return
        raise StepError(f"this came about and must not: {what}")

    return deed


def _watched(words: list[str]) -> Watched:
    known = _PLAIN.get(tuple(words))
    if known is not None:
        return known.what, lambda stage: known.holds(stage.vehicle.devices, stage.seq)
    if words and words[0] in _SPECIAL and words[1:]:
        return _SPECIAL[words[0]](words[1:])
    second = _SECOND_WORDS.get(words[0]) if words else None
    if second is not None:
        raise ValueError(f"after {words[0]!r} comes one of {', '.join(second)}")
    raise ValueError(
        "what can be seen is locked, unlocked, " + ", ".join(_SECOND_WORDS)
    )


def _entry(words: list[str]) -> Watched:
    kind = _ENTRIES.get(words[0])
    if kind is None:
        raise ValueError(f"after 'entry' comes one of {', '.join(_ENTRIES)}")
    tests = [_test(word) for word in words[1:]]
    what = f"{kind.__name__} in the ledger"
    if tests:
        what += " with " + " ".join(words[1:])

    def holds(stage: Stage) -> bool:
        seen = stage.vehicle.devices.witness.since(stage.seq)
        return any(
            isinstance(one.body, kind) and all(test(one.body) for test in tests)
            for one in seen
        )

    return what, holds


def _test(word: str) -> Callable[[object], bool]:
    match = _FIELD.fullmatch(word)
    if match is None:
        raise ValueError(f"{word[:40]!r} is not as distance_m=120")
    name, sign, wanted = match.groups()

    def holds(body: object) -> bool:
        value = getattr(body, name, None)
        text = value.name.lower() if isinstance(value, Enum) else str(value).lower()
        if sign == "=":
            return text == wanted
        if not isinstance(value, int):
            return False
        limit = float(wanted)
        return value >= limit if sign == ">=" else value <= limit

    return holds


def _line(words: list[str]) -> Watched:
    keys = {key.value: key for key in LineKey}
    if len(words) != 1 or words[0] not in keys:
        raise ValueError(f"after 'line' comes one of {', '.join(keys)}")
    key = keys[words[0]]
    return (
        f"a line {key.value!r} on the display",
        lambda stage: any(
            line.key is key for line in stage.vehicle.devices.display.prompt.lines
        ),
    )


def _answer(words: list[str]) -> Watched:
    codes = tuple(code.name.lower() for code in Code)
    if len(words) != 1 or words[0] not in codes:
        raise ValueError("after 'answer' comes a code, as ok or wrong_mode")
    return (
        f"the car to answer {words[0]!r}",
        lambda stage: stage.answer == words[0],
    )


def _sent(words: list[str]) -> Watched:
    tests = [_test(word) for word in words if "=" in word]
    name = " ".join(word for word in words if "=" not in word)

    def holds(stage: Stage) -> bool:
        frames = [] if stage.backend is None else stage.backend.frames[stage.frames :]
        return any(
            note.is_from_car
            and note.name.lower() == name
            and all(test(note.told) for test in tests)
            for note in frames
        )

    return f"{' '.join(words)} to arrive at the fleet", holds


_PLAIN: Final[dict[tuple[str, ...], Expectation]] = {
    ("locked",): bolts(locked=True),
    ("unlocked",): bolts(locked=False),
    ("engine", "held"): starter(released=False),
    ("engine", "released"): starter(released=True),
    ("hazards",): Expectation(
        "the hazard lights to blink", lambda devices, _: devices.car.hazards_on
    ),
    ("dark-hazards",): Expectation(
        "the hazard lights to be off", lambda devices, _: not devices.car.hazards_on
    ),
    **{("light", name): light(colour) for name, colour in _COLOURS.items()},
    **{
        ("light", name, "blinking"): light(colour, blinking=True)
        for name, colour in _COLOURS.items()
    },
    **{("display", key.value): prompt(key) for key in PromptKey},
}
_SPECIAL: Final[dict[str, Callable[[list[str]], Watched]]] = {
    "entry": _entry,
    "line": _line,
    "answer": _answer,
    "sent": _sent,
}
_SECOND_WORDS: Final = {
    "light": tuple(_COLOURS),
    "display": tuple(key.value for key in PromptKey),
    "entry": tuple(_ENTRIES),
    "engine": ("held", "released"),
    "line": tuple(key.value for key in LineKey),
    "answer": ("ok", "wrong_mode", "..."),
    "sent": ("RentalEnded", "..."),
    "hazards": (),
}

EXPECT_VERBS: Final = (
    Verb(
        "expect WHAT",
        "wait for: light red, locked, entry Parked",
        _read_expect,
        "watch",
    ),
    Verb("never WHAT", f"fail if that comes in {NEVER_S:g} s", _read_never, "watch"),
)
"""Everything of this kind, in the order of the help."""
