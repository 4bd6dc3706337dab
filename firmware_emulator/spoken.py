"""What can be said to an emulated car, one line a deed: scripts and the prompt.

``tap``, ``pin 2468``, ``drive 300``, ``expect light red``. A script is a text file of
such lines; ``#`` begins a comment. It is read whole before anything of it is played, so
that a misspelt last line does not end a rental in the middle. ``expect`` waits for what
must be seen and fails with the name of what was missing: that makes a script a test,
with an exit code.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from firmware_emulator.car import Leaf
from firmware_emulator.chance import seeded
from firmware_emulator.customer import Customer
from firmware_emulator.errors import ScriptError, StepError
from firmware_emulator.reader import Card
from firmware_emulator.script import (
    STEP_TIMEOUT_S,
    Expectation,
    bolts,
    entry,
    light,
    prompt,
    starter,
)
from firmware_emulator.vehicle import EmulatedVehicle
from gateway.core.events import DamageEntered, RatingEntered
from gateway.core.prompts import Choice, PromptKey
from protocol.codes import Light
from protocol.event import EVENTS, EventBody
from protocol.rental_codes import DamageKind, DamagePlace

SCRIPT_LIMIT: Final = 10_000
"""Lines of a script."""

_SHOWN: Final = 40
"""Characters of a wrong word that a message repeats."""


@dataclass(slots=True)
class Stage:
    """One vehicle and the customer at it."""

    vehicle: EmulatedVehicle
    """The vehicle."""
    customer: Customer
    """Who acts."""
    seq: int = 0
    """The ledger's newest entry before the last deed: `expect entry` looks after it."""


Deed = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a script."""

    text: str
    """As written."""
    deed: Deed
    """What it does."""
    is_deed: bool
    """False for `expect`, which does nothing to the car."""


@dataclass(frozen=True, slots=True)
class Verb:
    """A word that can be said first."""

    usage: str
    """The word and what follows it."""
    summary: str
    """What it does, in a few words."""
    read: Callable[[list[str]], Deed]
    """Makes a deed of what follows the word.

    Raises `ScriptError` or ValueError for what it does not understand.
    """


def parse_line(text: str) -> Line | None:
    """Read one line; None for an empty one or a comment.

    Raises:
        ScriptError: it is not understood; the message says what is allowed.
    """
    words = text.partition("#")[0].split()
    if not words:
        return None
    first, rest = words[0].lower(), words[1:]
    verb = VERBS.get(first)
    if verb is None:
        raise ScriptError(
            f"{first[:_SHOWN]!r} is no deed: say one of {', '.join(VERBS)}"
        )
    try:
        deed = verb.read(rest)
    except ValueError as error:
        raise ScriptError(f"{first}: {error}; say '{verb.usage}'") from None
    return Line(" ".join(words), deed, first not in {"expect", "wait"})


def parse_script(text: str) -> list[Line]:
    """Read a whole script.

    Raises:
        ScriptError: a line is not understood; the message has its number.
    """
    texts = text.splitlines()
    if len(texts) > SCRIPT_LIMIT:
        raise ScriptError(f"a script of {len(texts)} lines, at most {SCRIPT_LIMIT}")
    lines = []
    for number, line_text in enumerate(texts, start=1):
        try:
            line = parse_line(line_text)
        except ScriptError as error:
            raise ScriptError(f"line {number}: {error}") from None
        if line is not None:
            lines.append(line)
    return lines


async def say(line: Line, stage: Stage) -> None:
    """Do what a line says.

    Raises:
        StepError: something did not come about.
        DeedError: the deed was impossible.
    """
    if line.is_deed:
        stage.seq = stage.customer.devices.witness.last_seq
    await line.deed(stage)


def describe(stage: Stage) -> str:
    """Return what is seen of the car, in one line."""
    devices, car = stage.vehicle.devices, stage.vehicle.devices.car
    latitude_e7, longitude_e7 = car.city.coordinates(car.place)
    link = stage.vehicle.link
    parts = [
        f"light {devices.world.firmware.indicator}",
        f"doors {'locked' if car.locked else 'unlocked'}",
        *sorted(f"{leaf.value} open" for leaf in car.open_leaves),
        f"engine {'on' if car.engine_running else 'off'}",
        f"fuel {car.energy_pct} %",
        f"washer {car.washer_pct} %",
        f"{car.odometer_m / 1_000:.1f} km",
        f"at {latitude_e7 / 1e7:.5f} {longitude_e7 / 1e7:.5f}",
        f"mode {devices.witness.state.mode.name.lower()}",
        f"ledger at {devices.witness.last_seq}",
        "link cut" if link is not None and link.is_cut else "link up",
    ]
    if devices.display.words:
        parts.append(f"display: {devices.display.words}")
    return ", ".join(parts)


# --- reading words --------------------------------------------------------------------


def _none(rest: list[str]) -> None:
    if rest:
        raise ValueError(f"{rest[0][:_SHOWN]!r} is too much")


def _one(rest: list[str]) -> str:
    if len(rest) != 1:
        raise ValueError(f"takes one word, not {len(rest)}")
    return rest[0].lower()


def _number(rest: list[str], least: float, most: float) -> float:
    word = _one(rest)
    try:
        number = float(word)
    except ValueError:
        raise ValueError(f"{word[:_SHOWN]!r} is no number") from None
    if not least <= number <= most:
        raise ValueError(f"{number:g} is not within {least:g} and {most:g}")
    return number


def _among(rest: list[str], allowed: tuple[str, ...]) -> str:
    word = _one(rest)
    if word not in allowed:
        raise ValueError(f"{word[:_SHOWN]!r} is not one of {', '.join(allowed)}")
    return word


def _hands(act: Callable[[Customer], object]) -> Callable[[list[str]], Deed]:
    """Make a reader for a deed without anything behind its word."""

    def read(rest: list[str]) -> Deed:
        _none(rest)

        async def deed(stage: Stage) -> None:
            act(stage.customer)

        return deed

    return read


def _chooses(choice: Choice) -> Callable[[list[str]], Deed]:
    return _hands(lambda customer: customer.choose(choice))


def _read_pin(rest: list[str]) -> Deed:
    pin = _one(rest) if rest else None

    async def deed(stage: Stage) -> None:
        stage.customer.type_pin(pin)

    return deed


def _read_stranger(rest: list[str]) -> Deed:
    _none(rest)
    card = Card.random(seeded(0, "stranger"))

    async def deed(stage: Stage) -> None:
        stage.vehicle.devices.reader.tap(card)

    return deed


def _read_door(rest: list[str]) -> Deed:
    word = _among(rest or ["open"], ("open", "close"))

    async def deed(stage: Stage) -> None:
        with stage.vehicle.devices.world.hands() as car:
            if word == "open":
                car.open_door(inside=car.seated)
            else:
                car.close_door()

    return deed


def _read_boot(rest: list[str]) -> Deed:
    word = _among(rest or ["open"], ("open", "close"))

    async def deed(stage: Stage) -> None:
        with stage.vehicle.devices.world.hands() as car:
            if word == "open":
                car.open_door(Leaf.BOOT)
            else:
                car.close_door(Leaf.BOOT)

    return deed


def _read_start(rest: list[str]) -> Deed:
    _none(rest)

    async def deed(stage: Stage) -> None:
        if not stage.customer.start_engine():
            raise StepError("the engine does not start: it is held, or the tank empty")

    return deed


def _read_drive(rest: list[str]) -> Deed:
    distance_m = _number(rest, 1, 100_000)

    async def deed(stage: Stage) -> None:
        await stage.customer.drive(distance_m)

    return deed


def _read_pump(rest: list[str]) -> Deed:
    litres = _number(rest, 0.1, 200)

    async def deed(stage: Stage) -> None:
        await stage.customer.refuel(litres)

    return deed


def _read_wash(rest: list[str]) -> Deed:
    times = int(_number(rest or ["1"], 1, 1_000))

    async def deed(stage: Stage) -> None:
        stage.customer.wash_windscreen(times)

    return deed


def _read_fill(rest: list[str]) -> Deed:
    litres = _number(rest, 0.1, 20)

    async def deed(stage: Stage) -> None:
        stage.customer.fill_washer(litres)

    return deed


def _read_wait(rest: list[str]) -> Deed:
    duration_s = _number(rest, 0, 86_400)

    async def deed(stage: Stage) -> None:
        await stage.customer.wait(round(duration_s * 1_000))

    return deed


def _read_link(rest: list[str]) -> Deed:
    word = _among(rest, ("down", "up", "stall"))

    async def deed(stage: Stage) -> None:
        link = stage.vehicle.link
        if link is None:
            raise StepError("this car's link cannot be cut")
        {"down": link.cut, "up": link.restore, "stall": link.stall}[word]()

    return deed


def _read_power(rest: list[str]) -> Deed:
    _among(rest, ("cut",))

    async def deed(stage: Stage) -> None:
        await stage.vehicle.power_cut()

    return deed


def _read_restart(rest: list[str]) -> Deed:
    _none(rest)

    async def deed(stage: Stage) -> None:
        await stage.vehicle.restart()

    return deed


def _read_reader(rest: list[str]) -> Deed:
    word = _among(rest, ("off", "on"))

    async def deed(stage: Stage) -> None:
        reader = stage.vehicle.devices.reader
        (reader.fail if word == "off" else reader.repair)()

    return deed


def _read_board(rest: list[str]) -> Deed:
    word = _among(rest, ("off", "on"))

    async def deed(stage: Stage) -> None:
        stage.vehicle.devices.board.cable_cut = word == "off"

    return deed


def _read_bolts(rest: list[str]) -> Deed:
    word = _among(rest, ("jam", "free"))

    async def deed(stage: Stage) -> None:
        with stage.vehicle.devices.world.hands() as car:
            car.faults.bolts_jammed = word == "jam"

    return deed


def _read_rating(rest: list[str]) -> Deed:
    inside, outside = _two(rest)
    form = RatingEntered(int(_number([inside], 1, 5)), int(_number([outside], 1, 5)))
    return _fills_in(form)


def _read_damage(rest: list[str]) -> Deed:
    place, kind = _two(rest[:2])
    places = tuple(each.name.lower() for each in DamagePlace)
    kinds = tuple(each.name.lower() for each in DamageKind)
    form = DamageEntered(
        DamagePlace[_among([place], places).upper()],
        DamageKind[_among([kind], kinds).upper()],
        " ".join(rest[2:]),
    )
    return _fills_in(form)


def _two(rest: list[str]) -> tuple[str, str]:
    if len(rest) != 2:  # noqa: PLR2004 - as the name says
        raise ValueError(f"{len(rest)} words where two belong")
    return rest[0], rest[1]


def _fills_in(form: RatingEntered | DamageEntered) -> Deed:
    async def deed(stage: Stage) -> None:
        stage.customer.fill_in(form)

    return deed


_COLOURS: Final = {colour.name.lower(): colour for colour in Light}
_PROMPTS: Final = {key.value: key for key in PromptKey}
_ENTRIES: Final[dict[str, type[EventBody]]] = {
    layout.record.__name__.lower(): layout.record for layout in EVENTS.values()
}


def _read_expect(rest: list[str]) -> Deed:
    expectation = _expectation([word.lower() for word in rest])

    async def deed(stage: Stage) -> None:
        devices = stage.vehicle.devices
        await devices.witness.until(
            lambda: expectation.holds(devices, stage.seq),
            timeout_s=STEP_TIMEOUT_S,
            missing=expectation.what,
        )

    return deed


_EXPECTATIONS: Final[dict[tuple[str, ...], Expectation]] = {
    ("locked",): bolts(locked=True),
    ("unlocked",): bolts(locked=False),
    ("engine", "held"): starter(released=False),
    ("engine", "released"): starter(released=True),
    **{("light", name): light(colour) for name, colour in _COLOURS.items()},
    **{
        ("light", name, "blinking"): light(colour, blinking=True)
        for name, colour in _COLOURS.items()
    },
    **{("display", name): prompt(key) for name, key in _PROMPTS.items()},
    **{("entry", name): entry(kind) for name, kind in _ENTRIES.items()},
}
_SECOND_WORDS: Final = {
    "light": tuple(_COLOURS),
    "display": tuple(_PROMPTS),
    "entry": tuple(_ENTRIES),
    "engine": ("held", "released"),
}


def _expectation(words: list[str]) -> Expectation:
    known = _EXPECTATIONS.get(tuple(words))
    if known is not None:
        return known
    second = _SECOND_WORDS.get(words[0]) if words else None
    if second is not None:
        raise ValueError(f"after {words[0]!r} comes one of {', '.join(second)}")
    raise ValueError(
        "what can be seen is locked, unlocked, " + ", ".join(_SECOND_WORDS)
    )


VERBS: Final[dict[str, Verb]] = {
    verb.usage.split()[0]: verb
    for verb in (
        Verb("tap", "hold the customer's card to the windscreen", _hands(Customer.tap)),
        Verb("stranger", "hold somebody else's card to it", _read_stranger),
        Verb("pin [DIGITS]", "type a PIN; without digits the right one", _read_pin),
        Verb("continue", "pass by a question", _chooses(Choice.CONTINUE)),
        Verb("rate INSIDE OUTSIDE", "say how clean it is, 1 to 5", _read_rating),
        Verb("report", "choose to report damage", _chooses(Choice.REPORT_DAMAGE)),
        Verb("damage PLACE KIND [NOTE]", "say what is damaged", _read_damage),
        Verb("back", "leave the form of a damage", _chooses(Choice.BACK)),
        Verb("in", "open the driver's door, sit, close", _hands(Customer.get_in)),
        Verb("out", "open the driver's door, get out, close", _hands(Customer.get_out)),
        Verb("door open|close", "only the driver's door", _read_door),
        Verb("boot open|close", "the boot", _read_boot),
        Verb("start", "turn the key; the engine must run", _read_start),
        Verb("stop", "turn the key back", _hands(Customer.stop_engine)),
        Verb("drive METRES", "drive, at up to 50 km/h, and stop", _read_drive),
        Verb("park", "choose to park", _chooses(Choice.PARK)),
        Verb("end", "choose to end", _chooses(Choice.END)),
        Verb("refuel", "choose to refuel", _chooses(Choice.REFUEL)),
        Verb("pump LITRES", "fill in fuel, at 38 l/min", _read_pump),
        Verb("paid", "say: paid by fuel card", _chooses(Choice.PAID_BY_CARD)),
        Verb("done", "say: refuelled", _chooses(Choice.REFUEL_DONE)),
        Verb("wash [TIMES]", "use washer fluid", _read_wash),
        Verb("fill LITRES", "fill in washer fluid", _read_fill),
        Verb("wait SECONDS", "let time pass", _read_wait),
        Verb("link down|up|stall", "cut, restore or stall the link", _read_link),
        Verb("power cut", "take the power away for a second", _read_power),
        Verb("restart", "end the agent in order and start it", _read_restart),
        Verb("reader off|on", "unplug the card reader", _read_reader),
        Verb("board off|on", "pull the board's cable", _read_board),
        Verb("bolts jam|free", "jam the bolts", _read_bolts),
        Verb("expect WHAT", "wait for: light red, locked, entry Parked", _read_expect),
    )
}
"""Everything that can be said, in the order of the help."""
