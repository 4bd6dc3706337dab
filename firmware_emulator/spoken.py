"""What can be said to an emulated car, one line a deed: scripts and the prompt.

``tap``, ``pin 2468``, ``drive 300``, ``expect light red``. A script is a text file of
such lines; ``#`` begins a comment. It is read whole before anything of it is played, so
that a misspelt last line does not end a rental in the middle. ``expect`` waits for what
must be seen and fails with the name of what was missing: that makes a script a test,
with an exit code.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from firmware_emulator.car import Leaf, Window
from firmware_emulator.customer import Customer
from firmware_emulator.display import FilledIn
from firmware_emulator.errors import ScriptError, StepError
from firmware_emulator.saying import (
    SHOWN,
    Deed,
    Stage,
    Verb,
    among,
    none,
    number,
    one,
    two,
)
from firmware_emulator.spoken_expect import EXPECT_VERBS
from firmware_emulator.spoken_fleet import FLEET_VERBS
from firmware_emulator.spoken_world import WORLD_VERBS
from gateway.core.events import (
    DamageEntered,
    DestinationEntered,
    PumpEntered,
    RatingEntered,
)
from gateway.core.prompts import Choice
from protocol.rental_codes import DamageKind, DamagePlace

SCRIPT_LIMIT: Final = 10_000
"""Lines of a script."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a script."""

    text: str
    """As written."""
    deed: Deed
    """What it does."""
    is_deed: bool
    """False for `expect`, which does nothing to the car."""
    who: str = ""
    """Who does it."""
    comment: str = ""
    """What the script says about it behind ``#``."""


def parse_line(text: str) -> Line | None:
    """Read one line; None for an empty one or a comment.

    Raises:
        ScriptError: it is not understood; the message says what is allowed.
    """
    said, _, comment = text.partition("#")
    words = said.split()
    if not words:
        return None
    first, rest = words[0].lower(), words[1:]
    verb = VERBS.get(first)
    if verb is None:
        raise ScriptError(
            f"{first[:SHOWN]!r} is no deed: say one of {', '.join(VERBS)}"
        )
    try:
        deed = verb.read(rest)
    except ValueError as error:
        raise ScriptError(f"{first}: {error}; say '{verb.usage}'") from None
    is_deed = verb.who != "watch" and first != "wait"
    return Line(" ".join(words), deed, is_deed, verb.who, comment.strip())


def parse_script(text: str) -> list[Line]:
    """Read a whole script.

    Raises:
        ScriptError: a line is not understood; the message has its number.
    """
    texts = text.splitlines()
    if len(texts) > SCRIPT_LIMIT:
        raise ScriptError(f"a script of {len(texts)} lines, at most {SCRIPT_LIMIT}")
    lines = []
    for count, line_text in enumerate(texts, start=1):
        try:
            line = parse_line(line_text)
        except ScriptError as error:
            raise ScriptError(f"line {count}: {error}") from None
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
        stage.frames = 0 if stage.backend is None else len(stage.backend.frames)
    await line.deed(stage)


def describe(stage: Stage) -> str:
    """Return what is seen of the car, in one line."""
    devices, car = stage.vehicle.devices, stage.vehicle.devices.car
    latitude_e7, longitude_e7 = car.city.coordinates(car.place)
    link = stage.vehicle.link
    parts = [
        f"light {devices.world.firmware.indicator}",
        f"doors {'locked' if car.locked else 'unlocked'}",
        *sorted(f"{each.value} open" for each in car.open_leaves | car.open_windows),
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
        parts.append("display: " + " / ".join(devices.display.words.splitlines()))
    if devices.witness.state.rental is not None and devices.display.menu:
        parts.append("menu: " + " | ".join(devices.display.menu))
    return ", ".join(parts)


# --- reading words --------------------------------------------------------------------


def _hands(act: Callable[[Customer], object]) -> Callable[[list[str]], Deed]:
    """Make a reader for a deed without anything behind its word."""

    def read(rest: list[str]) -> Deed:
        none(rest)

        async def deed(stage: Stage) -> None:
            act(stage.customer)

        return deed

    return read


def _chooses(choice: Choice) -> Callable[[list[str]], Deed]:
    return _hands(lambda customer: customer.choose(choice))


def _read_second(rest: list[str]) -> Deed:
    line = parse_line(" ".join(rest))
    if line is None or line.who != "customer":
        raise ValueError("behind it comes what a customer does, as second tap")

    async def deed(stage: Stage) -> None:
        await line.deed(replace(stage, customer=stage.second))

    return deed


def _read_pin(rest: list[str]) -> Deed:
    pin = one(rest) if rest else None

    async def deed(stage: Stage) -> None:
        stage.customer.type_pin(pin)

    return deed


def _read_door(rest: list[str]) -> Deed:
    named = rest[0].lower() if len(rest) > 1 else "driver"
    leaf = _DOORS[among([named], tuple(_DOORS))]
    word = among(rest[-1:] or ["open"], ("open", "close"))

    async def deed(stage: Stage) -> None:
        with stage.vehicle.devices.world.hands() as car:
            if word == "open":
                car.open_door(leaf, inside=car.seated)
            else:
                car.close_door(leaf)

    return deed


def _read_boot(rest: list[str]) -> Deed:
    word = among(rest or ["open"], ("open", "close"))

    async def deed(stage: Stage) -> None:
        with stage.vehicle.devices.world.hands() as car:
            if word == "open":
                car.open_door(Leaf.BOOT)
            else:
                car.close_door(Leaf.BOOT)

    return deed


def _read_start(rest: list[str]) -> Deed:
    none(rest)

    async def deed(stage: Stage) -> None:
        if not stage.customer.start_engine():
            raise StepError("the engine does not start: it is held, or the tank empty")

    return deed


def _read_drive(rest: list[str]) -> Deed:
    distance_m = number(rest, 1, 100_000)

    async def deed(stage: Stage) -> None:
        await stage.customer.drive(distance_m)

    return deed


def _read_go(rest: list[str]) -> Deed:
    east, north = (number([word], 0, 100_000) for word in two(rest))

    async def deed(stage: Stage) -> None:
        await stage.customer.drive_to(east, north)

    return deed


def _read_key(rest: list[str]) -> Deed:
    word = among(rest, ("take", "return"))

    async def deed(stage: Stage) -> None:
        with stage.vehicle.devices.world.hands() as car:
            (car.take_key if word == "take" else car.return_key)()

    return deed


def _read_window(rest: list[str]) -> Deed:
    which = among(rest[:1], tuple(_WINDOWS))
    word = among(rest[1:], ("open", "close"))

    async def deed(stage: Stage) -> None:
        with stage.vehicle.devices.world.hands() as car:
            car.move_window(_WINDOWS[which], is_open=word == "open")

    return deed


_WINDOWS: Final = {each.name.lower().replace("_", "-"): each for each in Window}
_DOORS: Final = {
    each.name.lower().replace("_", "-"): each for each in Leaf if each is not Leaf.BOOT
}


def _read_plug(rest: list[str]) -> Deed:
    word = among(rest, ("in", "out"))

    async def deed(stage: Stage) -> None:
        with stage.vehicle.devices.world.hands() as car:
            (car.plug_in if word == "in" else car.unplug)()

    return deed


def _read_pump(rest: list[str]) -> Deed:
    litres = number(rest, 0.1, 200)

    async def deed(stage: Stage) -> None:
        await stage.customer.refuel(litres)

    return deed


def _read_wash(rest: list[str]) -> Deed:
    times = int(number(rest or ["1"], 1, 1_000))

    async def deed(stage: Stage) -> None:
        stage.customer.wash_windscreen(times)

    return deed


def _read_fill(rest: list[str]) -> Deed:
    litres = number(rest, 0.1, 20)

    async def deed(stage: Stage) -> None:
        stage.customer.fill_washer(litres)

    return deed


def _read_wait(rest: list[str]) -> Deed:
    duration_s = number(rest, 0, 86_400)

    async def deed(stage: Stage) -> None:
        await stage.customer.wait(round(duration_s * 1_000))

    return deed


def _read_rating(rest: list[str]) -> Deed:
    inside, outside = two(rest)
    form = RatingEntered(int(number([inside], 1, 5)), int(number([outside], 1, 5)))
    return _fills_in(form)


def _read_damage(rest: list[str]) -> Deed:
    place, kind = two(rest[:2])
    places = tuple(each.name.lower() for each in DamagePlace)
    kinds = tuple(each.name.lower() for each in DamageKind)
    form = DamageEntered(
        DamagePlace[among([place], places).upper()],
        DamageKind[among([kind], kinds).upper()],
        " ".join(rest[2:]),
    )
    return _fills_in(form)


def _read_pump_number(rest: list[str]) -> Deed:
    return _fills_in(PumpEntered(round(number(rest, 0, 1_000))))


def _read_destination(rest: list[str]) -> Deed:
    return _fills_in(DestinationEntered(" ".join(rest)))


def _fills_in(form: FilledIn) -> Deed:
    async def deed(stage: Stage) -> None:
        stage.customer.fill_in(form)

    return deed


VERBS: Final[dict[str, Verb]] = {
    verb.usage.split()[0]: verb
    for verb in (
        Verb("tap", "hold the customer's card to the windscreen", _hands(Customer.tap)),
        Verb("second DEED", "let a second customer do it", _read_second),
        Verb("pin [DIGITS]", "type a PIN; without digits the right one", _read_pin),
        Verb("continue", "pass by a question", _chooses(Choice.CONTINUE)),
        Verb("rate INSIDE OUTSIDE", "say how clean it is, 1 to 5", _read_rating),
        Verb("report", "choose to report damage", _chooses(Choice.REPORT_DAMAGE)),
        Verb("damage PLACE KIND [NOTE]", "say what is damaged", _read_damage),
        Verb("back", "leave the form of a damage", _chooses(Choice.BACK)),
        Verb("in", "open the driver's door, sit, close", _hands(Customer.get_in)),
        Verb("out", "open the driver's door, get out, close", _hands(Customer.get_out)),
        Verb("door [WHICH] open|close", "a door; the driver's, if none", _read_door),
        Verb("boot open|close", "the boot", _read_boot),
        Verb("start", "turn the key; the engine must run", _read_start),
        Verb("stop", "turn the key back", _hands(Customer.stop_engine)),
        Verb("drive METRES", "drive, at up to 50 km/h, and stop", _read_drive),
        Verb("go EAST NORTH", "drive to a place, metres in the city", _read_go),
        Verb("park", "choose to park", _chooses(Choice.PARK)),
        Verb("end", "choose to end", _chooses(Choice.END)),
        Verb("refuel", "choose to refuel", _chooses(Choice.REFUEL)),
        Verb("pump LITRES", "fill in fuel, at 38 l/min", _read_pump),
        Verb("online", "choose to pay online", _chooses(Choice.PAY_ONLINE)),
        Verb("pump-number NUMBER", "type the number of the pump", _read_pump_number),
        Verb("paid", "say: paid by fuel card", _chooses(Choice.PAID_BY_CARD)),
        Verb("done", "say: refuelled", _chooses(Choice.REFUEL_DONE)),
        Verb("offer", "offer the car to others", _chooses(Choice.OFFER_HANDOVER)),
        Verb("plan", "choose to hand over there", _chooses(Choice.PLAN_HANDOVER)),
        Verb("destination WORDS", "type where the way ends", _read_destination),
        Verb("accept", "accept who asks", _chooses(Choice.ACCEPT_HANDOVER)),
        Verb("decline", "decline who asks", _chooses(Choice.DECLINE_HANDOVER)),
        Verb("wash [TIMES]", "use washer fluid", _read_wash),
        Verb("plug in|out", "the charging cable", _read_plug),
        Verb("fill LITRES", "fill in washer fluid", _read_fill),
        Verb("key take|return", "the key and its holder", _read_key),
        Verb(f"window {'|'.join(_WINDOWS)} open|close", "a window", _read_window),
        Verb("wait SECONDS", "let time pass", _read_wait, "world"),
        *WORLD_VERBS,
        *FLEET_VERBS,
        *EXPECT_VERBS,
    )
}
"""Everything that can be said, in the order of the help."""
