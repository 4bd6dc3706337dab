"""A rental as a script: every step of a customer's way, and the whole of it.

The steps are functions, to be put together as a test or a demonstration needs them;
`rental_steps` is the rental that `freefloat demo` tells. Times and lengths are real:
nothing is scaled, the drives are short.
"""

from dataclasses import dataclass

from firmware_emulator.customer import Customer
from firmware_emulator.errors import StepError
from firmware_emulator.script import (
    Expectation,
    ScriptStep,
    bolts,
    entry,
    light,
    prompt,
    starter,
)
from gateway.core.events import RatingEntered
from gateway.core.prompts import Choice, PromptKey
from protocol.codes import Light
from protocol.event import (
    EnergyLow,
    EngineReleased,
    EngineStarted,
    EngineStopped,
    FuelPaidByCard,
    Parked,
    PinAccepted,
    RefuelEnded,
    RefuelStarted,
    RentalEnded,
    RentalStarted,
    Resumed,
)
from protocol.rental_event import CleanlinessRated, InspectionDone


@dataclass(frozen=True, slots=True)
class RentalPlan:
    """What a scripted rental does; the car must be reserved for the customer."""

    wrong_pin: str = "0000"
    """Typed once before the right one; any PIN but the customer's."""
    first_drive_m: float = 120.0
    """About 14 s: to 50 km/h and back."""
    falls_low: bool = True
    """Whether the level falls below 25 % on the first drive. The car must be prepared
    for it: `LOW_SOON_L` in the tank of the default model."""
    sprays: int = 3
    """Sprays of washer fluid on the way."""
    away_ms: int = 5_000
    """How long the car is parked."""
    refuel_l: float = 6.0
    """Filled in; 9.5 s at 38 l/min, 12 points of 50 l (H5 asks for 10)."""
    second_drive_m: float = 60.0
    """About 9 s."""
    washer_l: float = 1.5
    """Washer fluid filled in at the end."""


LOW_SOON_L = 12.505
"""Fuel of a car of 50 l that shows 25 % and, 63 m later, 24 % (N2, N9)."""


def rental_steps(plan: RentalPlan) -> tuple[ScriptStep, ...]:
    """Return a whole rental: open, PIN, drive, park, return, refuel, drive, end."""
    told = prompt(PromptKey.ENERGY_LOW, PromptKey.CHARGE_LOW)
    low = (entry(EnergyLow), told) if plan.falls_low else ()
    return (
        tap_to_open(),
        look_at_damage(),
        get_in(),
        rate_cleanliness(),
        enter_wrong_pin(plan.wrong_pin),
        enter_pin(),
        start_engine(),
        drive(plan.first_drive_m, *low),
        use_washer(plan.sprays),
        stop_engine(),
        choose_to_park(),
        park_by_card(),
        stay_away(plan.away_ms),
        return_by_card(),
        get_in(),
        enter_pin(),
        choose_to_refuel(),
        refuel(plan.refuel_l),
        pay_by_fuel_card(),
        finish_refuelling(),
        fill_washer(plan.washer_l),
        get_in(),
        start_engine(),
        drive(plan.second_drive_m),
        stop_engine(),
        choose_to_end(),
        end_by_card(),
    )


def tap_to_open() -> ScriptStep:
    """The first tap: doors open, the rental starts, the light is red (H15)."""

    async def deed(customer: Customer) -> None:
        customer.tap()

    return ScriptStep(
        "holds the card to the windscreen",
        deed,
        (
            bolts(locked=False),
            entry(RentalStarted),
            light(Light.RED),
            prompt(PromptKey.NO_KNOWN_DAMAGE),
        ),
    )


def look_at_damage() -> ScriptStep:
    """What is known of the car's damage, then its cleanliness (C9)."""

    async def deed(customer: Customer) -> None:
        customer.choose(Choice.CONTINUE)

    return ScriptStep(
        "looks at the car and finds no damage",
        deed,
        (prompt(PromptKey.RATE_CLEANLINESS),),
    )


def rate_cleanliness(inside: int = 5, outside: int = 4) -> ScriptStep:
    """Stars for inside and outside; then the PIN is asked for (C9)."""

    async def deed(customer: Customer) -> None:
        customer.fill_in(RatingEntered(inside, outside))

    return ScriptStep(
        f"gives {inside} stars inside and {outside} outside",
        deed,
        (entry(CleanlinessRated), entry(InspectionDone), prompt(PromptKey.ENTER_PIN)),
    )


def get_in() -> ScriptStep:
    """Door, seat, door."""

    async def deed(customer: Customer) -> None:
        customer.get_in()

    return ScriptStep("gets in", deed, ())


def enter_wrong_pin(pin: str) -> ScriptStep:
    """A PIN that is not the customer's: the engine stays held (C11, H6)."""

    async def deed(customer: Customer) -> None:
        customer.type_pin(pin)

    return ScriptStep(
        "types a wrong PIN",
        deed,
        (prompt(PromptKey.PIN_WRONG), starter(released=False)),
    )


def enter_pin() -> ScriptStep:
    """The right PIN: the engine may start."""

    async def deed(customer: Customer) -> None:
        customer.type_pin()

    return ScriptStep(
        "types the right PIN",
        deed,
        (
            entry(PinAccepted),
            starter(released=True),
            entry(EngineReleased),
        ),
    )


def start_engine() -> ScriptStep:
    """The key: the engine runs."""

    async def deed(customer: Customer) -> None:
        if not customer.start_engine():
            raise StepError("starts the engine: it did not start")

    return ScriptStep("starts the engine", deed, (entry(EngineStarted),))


def drive(distance_m: float, *expects: Expectation) -> ScriptStep:
    """A drive of that length at up to 50 km/h; nothing is compressed."""

    async def deed(customer: Customer) -> None:
        await customer.drive(distance_m)

    return ScriptStep(f"drives {distance_m:g} m", deed, expects)


def stop_engine() -> ScriptStep:
    """The key back: the car asks what next (C16)."""

    async def deed(customer: Customer) -> None:
        customer.stop_engine()

    return ScriptStep(
        "stops the engine",
        deed,
        (
            entry(EngineStopped),
            prompt(PromptKey.CHOOSE_NEXT, PromptKey.CHOOSE_NEXT_ELECTRIC),
        ),
    )


def choose_to_park() -> ScriptStep:
    """Park in the menu (C24)."""

    async def deed(customer: Customer) -> None:
        customer.choose(Choice.PARK)

    return ScriptStep("chooses to park", deed, (prompt(PromptKey.LOCK_TO_PARK),))


def choose_to_end() -> ScriptStep:
    """End in the menu."""

    async def deed(customer: Customer) -> None:
        customer.choose(Choice.END)

    return ScriptStep("chooses to end", deed, (prompt(PromptKey.LOCK_TO_END),))


def park_by_card() -> ScriptStep:
    """Out, doors closed, card: locked, parked, red (C3, C24)."""

    async def deed(customer: Customer) -> None:
        customer.get_out()
        customer.tap()

    return ScriptStep(
        "gets out and parks by card",
        deed,
        (bolts(locked=True), entry(Parked), starter(released=False), light(Light.RED)),
    )


def stay_away(duration_ms: int) -> ScriptStep:
    """Parking time."""

    async def deed(customer: Customer) -> None:
        await customer.wait(duration_ms)

    return ScriptStep(f"is away for {duration_ms / 1_000:g} s", deed, ())


def return_by_card() -> ScriptStep:
    """Card at the parked car: it opens and wants the PIN again."""

    async def deed(customer: Customer) -> None:
        customer.tap()

    return ScriptStep(
        "comes back and holds the card to the windscreen",
        deed,
        (bolts(locked=False), entry(Resumed), prompt(PromptKey.ENTER_PIN)),
    )


def choose_to_refuel() -> ScriptStep:
    """Refuel in the menu: the fuel card's PIN is shown (C17)."""

    async def deed(customer: Customer) -> None:
        customer.choose(Choice.REFUEL)

    return ScriptStep(
        "chooses to refuel",
        deed,
        (entry(RefuelStarted), prompt(PromptKey.FUEL_CARD_PIN)),
    )


def refuel(litres: float) -> ScriptStep:
    """Pump, 38 litres a minute as nozzles do."""

    async def deed(customer: Customer) -> None:
        customer.get_out()
        await customer.refuel(litres)

    return ScriptStep(f"fills in {litres:g} l", deed, ())


def pay_by_fuel_card() -> ScriptStep:
    """Paid at the desk, told to the car (H2)."""

    async def deed(customer: Customer) -> None:
        customer.choose(Choice.PAID_BY_CARD)

    return ScriptStep("pays with the fuel card", deed, (entry(FuelPaidByCard),))


def finish_refuelling() -> ScriptStep:
    """Done: the car says what came in (H5)."""

    async def deed(customer: Customer) -> None:
        customer.choose(Choice.REFUEL_DONE)

    return ScriptStep("is done refuelling", deed, (entry(RefuelEnded),))


def use_washer(times: int) -> ScriptStep:
    """Washer fluid, which the report accounts for (C23)."""

    async def deed(customer: Customer) -> None:
        customer.wash_windscreen(times)

    return ScriptStep(f"washes the windscreen {times} times", deed, ())


def fill_washer(litres: float) -> ScriptStep:
    """Washer fluid into the car (H18)."""

    async def deed(customer: Customer) -> None:
        customer.fill_washer(litres)

    return ScriptStep(f"fills in {litres:g} l of washer fluid", deed, ())


def end_by_card() -> ScriptStep:
    """Out, doors closed, card: locked, over, green (C4, C26)."""

    async def deed(customer: Customer) -> None:
        if customer.devices.car.seated:
            customer.get_out()
        customer.tap()

    return ScriptStep(
        "gets out and ends the rental by card",
        deed,
        (
            bolts(locked=True),
            entry(RentalEnded),
            light(Light.GREEN),
            prompt(PromptKey.RENTAL_ENDED),
        ),
    )
