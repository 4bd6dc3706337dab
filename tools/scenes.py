"""The scenes of the demonstration: cars connect, a rental, a rental without a network.

A scene does what people and services would do, waits until it has been seen, and tells
it. What does not come about raises, and the demonstration fails.
"""

import asyncio
import base64
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import aiohttp

from firmware_emulator import rental_script as script
from firmware_emulator.customer import Customer
from firmware_emulator.errors import StepError
from firmware_emulator.reader import Card
from firmware_emulator.rental_script import RentalPlan, rental_steps
from firmware_emulator.script import ScriptStep, play_step
from firmware_emulator.vehicle import EmulatedVehicle
from protocol.codes import FrameClass, Light, Role
from protocol.entry import entry_hash, split_entry
from protocol.event import RentalEnded, parse_event
from protocol.frame import parse_frame
from protocol.keys import VerifyKey
from protocol.receipt import RECEIPT
from protocol.signing import verify_frame
from tools.rig import Rig
from tools.story import Story

PIN: Final = "2468"
FUEL_CARD_PIN: Final = "7391"

ARRIVAL_S: Final = 20.0
"""How long a report, its receipt or a webhook may take: seconds of back-off at most."""

CONNECT_S: Final = 30.0
"""How long all cars may take to say hello."""

LOOK_S: Final = 0.05
"""How often the bridge's API is asked while something is awaited."""

ENDED: Final = "freefloat.rental.ended"


class FleetServicePort(Protocol):
    """What the scenes ask of the fleet service in examples/."""

    async def reserve(
        self,
        customer: str,
        vehicle_id: str,
        *,
        cards: list[str],
        pin: str,
        fuel_card_pin: str | None = None,
    ) -> dict[str, object]:
        """Reserve a car through the bridge."""

    async def wait_invoice(self, rental_id: str) -> dict[str, object]:
        """Wait for a rental's invoice."""


class Postbox:
    """Counts the webhooks that the fleet service received, signature checked."""

    def __init__(self) -> None:
        """Begin empty."""
        self._received: list[tuple[str, str, bool]] = []

    def take(self, event_type: str, event: Mapping[str, object], is_new: bool) -> None:
        """Note one webhook; it is the fleet service's listener."""
        data = event.get("data")
        rental = str(data.get("rental_id")) if isinstance(data, dict) else ""
        self._received.append((event_type, rental, is_new))

    def count(self, event_type: str, rental_id: str) -> tuple[int, int]:
        """Return how many of a kind came for a rental, and how many were new."""
        found = [
            new
            for kind, rental, new in self._received
            if (kind, rental) == (event_type, rental_id)
        ]
        return len(found), sum(found)


class Scenes:
    """The three scenes."""

    def __init__(
        self,
        story: Story,
        rig: Rig,
        api: aiohttp.ClientSession,
        service: FleetServicePort,
        postbox: Postbox,
        *,
        pause_s: float,
    ) -> None:
        """Keep the stage."""
        self._pause_s = pause_s
        self._story = story
        self._rig = rig
        self._api = api
        self._service = service
        self._postbox = postbox
        self._rng = random.Random(7)  # noqa: S311 - card numbers, no secrets

    async def play(self) -> None:
        """Play all three.

        Raises:
            StepError: something did not come about; it says what.
        """
        await self.connect()
        await self.rent()
        await self.rent_offline()

    # --- the cars connect -----------------------------------------------------------

    async def connect(self) -> None:
        """Wait until every car has said a signed hello."""
        cars = len(self._rig.cars)
        async with _within(CONNECT_S, f"{cars} cars to be online"):
            while await self._online() < cars:  # noqa: ASYNC110 - HTTP must be asked
                await asyncio.sleep(LOOK_S)
        self._story.line(f"{cars} cars connected, each with a signed HELLO")

    async def _online(self) -> int:
        page = await self._get("/v1/vehicles?limit=200")
        return sum(vehicle["online"] for vehicle in page["vehicles"])

    # --- a whole rental -------------------------------------------------------------

    async def rent(self) -> None:
        """Play a whole rental and show its report, receipt and webhook."""
        car, story = self._rig.cars[0], self._story
        story.chapter(f"Anna rents car {car.vehicle_id}")
        story.follow(car.vehicle_id)
        anna = self._customer("Anna", car)
        rental_id = await self._reserve(anna, car)
        for step in rental_steps(RentalPlan(washer_l=2.0)):
            await self._play(anna, car, step)
        await self._show_report(car, rental_id)
        await self._show_webhook(rental_id)
        story.unfollow(car.vehicle_id)

    def _customer(self, name: str, car: EmulatedVehicle) -> Customer:
        return Customer(car.devices, Card.random(self._rng), pin=PIN, name=name)

    async def _reserve(self, customer: Customer, car: EmulatedVehicle) -> str:
        story, world = self._story, car.devices.world
        story.line(
            f"the fleet service reserves the car for {customer.name}",
            f"card ...{customer.card.uid[-2:].hex()}, PIN and fuel card PIN sealed",
        )
        story.light_change(car.vehicle_id, world.firmware.indicator)
        answer = await self._service.reserve(
            customer.name,
            str(car.vehicle_id),
            cards=[customer.card.uid.hex()],
            pin=customer.pin,
            fuel_card_pin=FUEL_CARD_PIN,
        )
        await car.devices.witness.until(
            lambda: world.firmware.indicator.light is Light.YELLOW,
            timeout_s=ARRIVAL_S,
            missing="the light to be yellow",
        )
        story.tell_frames()
        story.light_change(car.vehicle_id, world.firmware.indicator)
        return str(answer["rental_id"])

    async def _show_report(self, car: EmulatedVehicle, rental_id: str) -> None:
        rental = await self._receipted(rental_id)
        story, evidence = self._story, rental["evidence"]
        frame_data = base64.b64decode(evidence["frame"])
        report = self._verify_report(car, frame_data)
        story.line("the signed rental report, as the bridge stored it")
        total_s, parking_s = report.total_ms / 1e3, report.parking_ms / 1e3
        story.facts(
            ("driving", f"{total_s - parking_s:.1f} s  -> {report.driving_min} min"),
            ("parking", f"{parking_s:.1f} s  -> {report.parking_min} min"),
            ("rounding", "every minute that began counts, driving and parking apart"),
            ("distance", f"{report.distance_m} m"),
            ("fuel", f"{report.start_energy_pct} % -> {report.end_energy_pct} %"),
            ("lowest fuel", f"{report.lowest_energy_pct} %"),
            ("filled in", f"{report.refuel_gain_pct} points of fuel"),
            ("washer", f"{report.start_washer_pct} % -> {report.end_washer_pct} %"),
        )
        header = parse_frame(frame_data).header
        story.check(
            f"its signature holds under the car's key {header.key_id.hex()}, "
            f"{len(frame_data)} bytes"
        )
        receipt_data = base64.b64decode(evidence["receipt"]["frame"])
        upto = self._verify_receipt(car, receipt_data, frame_data)
        story.check(f"the fleet's receipt covers it: entries up to {upto} are safe")

    def _verify_report(self, car: EmulatedVehicle, data: bytes) -> RentalEnded:
        """Check the car's signature with nothing but the registry, and read it."""
        fleet = self._rig.fleet
        record = fleet.vehicle_record(car.vehicle_id)
        frame = parse_frame(data)
        verify_frame(frame, fleet_id=fleet.fleet.fleet_id, key=record.signing_key)
        _link, body = split_entry(frame.payload)
        report = parse_event(frame.header.type, frame.header.schema, body)
        if not isinstance(report, RentalEnded):
            raise StepError("the bridge keeps another entry as the rental's report")
        return report

    def _verify_receipt(self, car: EmulatedVehicle, data: bytes, report: bytes) -> int:
        """Check the fleet's signature with nothing but the trust bundle."""
        frame = parse_frame(data)
        fleet = self._rig.fleet
        keys = [
            VerifyKey.load(key.public_key)
            for key in fleet.open_trust_bundle().keys
            if key.role is Role.RECEIPT and key.key_id == frame.header.key_id
        ]
        if frame.header.frame_class is not FrameClass.RECEIPT or not keys:
            raise StepError("the receipt is not signed by the fleet's receipt key")
        verify_frame(frame, fleet_id=fleet.fleet.fleet_id, key=keys[0])
        receipt = RECEIPT.parse(frame.payload)
        seq = parse_frame(report).header.seq
        covers = frame.header.vehicle_id == car.vehicle_id and receipt.upto >= seq
        if not covers or (
            receipt.upto == seq and receipt.head_hash != entry_hash(report)
        ):
            raise StepError("the receipt does not cover the report")
        return receipt.upto

    async def _show_webhook(self, rental_id: str) -> None:
        async with _within(ARRIVAL_S, "the webhook of the rental's end"):
            invoice = await self._service.wait_invoice(rental_id)
        story = self._story
        story.line("the fleet service received the webhook and made an invoice", ENDED)
        lines = invoice["lines"]
        for line in lines if isinstance(lines, list) else ():
            story.facts((f"{line['amount']:>5} EUR", str(line["text"])))
        story.facts(
            (f"{invoice['total']:>5} EUR", "in all"),
            ("earned", f"{invoice['bonus_earned_min']} bonus minutes"),
        )
        async with _within(ARRIVAL_S, "the line of the rental's end in the event file"):
            # Each consumer is told by itself, and this one may be the later.
            while not self._lines_of(rental_id):  # noqa: ASYNC110 - a file tells nobody
                await asyncio.sleep(0.05)
        self._require_once(rental_id)

    def _lines_of(self, rental_id: str) -> int:
        lines = self._rig.events_file.read_text(encoding="utf-8").splitlines()
        return sum(f'"{ENDED}"' in line and rental_id in line for line in lines)

    def _require_once(self, rental_id: str) -> None:
        received, new = self._postbox.count(ENDED, rental_id)
        if new != 1:
            raise StepError(f"the report reached the fleet service {new} times")
        written = self._lines_of(rental_id)
        if written != 1:
            raise StepError(f"the event file tells the report {written} times")
        self._story.check(
            f"webhook signature holds; counted once (deliveries: {received}, "
            f"lines in the event file: {written})"
        )

    # --- without a network ----------------------------------------------------------

    async def rent_offline(self) -> None:
        """Cut the link in mid-rental, end the rental, and let the report arrive."""
        car, story = self._rig.cars[1], self._story
        story.chapter(f"Ben rents car {car.vehicle_id}, and the network fails")
        story.follow(car.vehicle_id)
        ben = self._customer("Ben", car)
        rental_id = await self._reserve(ben, car)
        for step in (
            script.tap_to_open(),
            script.get_in(),
            script.enter_pin(),
            script.start_engine(),
        ):
            await self._play(ben, car, step)
        seq = car.devices.witness.last_seq
        car.cut_link()
        story.line(f"the link of this car is cut; entries up to {seq} have a receipt")
        for step in (
            script.drive(60.0),
            script.stop_engine(),
            script.choose_to_end(),
            script.end_by_card(),
        ):
            await self._play(ben, car, step)
        waiting = car.devices.witness.last_seq - seq
        rental = await self._get(f"/v1/rentals/{rental_id}")
        if rental["report"] is not None:
            raise StepError("the report crossed a link that was cut")
        story.check(
            f"the rental is over for Ben; {waiting} signed entries wait in the car, "
            "and the bridge has no report"
        )
        story.line("the link comes back")
        car.restore_link()
        await self._show_report(car, rental_id)
        await self._show_webhook(rental_id)
        story.unfollow(car.vehicle_id)

    async def _play(
        self, customer: Customer, car: EmulatedVehicle, step: ScriptStep
    ) -> None:
        await asyncio.sleep(self._pause_s)
        self._story.line(f"{customer.name} {step.title}")
        report = await play_step(step, customer)
        self._story.seen(car.vehicle_id, report)
        if car.link is not None and not car.link.is_cut:
            # So that a step's frames stand below it and not below the next one.
            await self._all_receipted(car)
        self._story.tell_frames()

    async def _all_receipted(self, car: EmulatedVehicle) -> None:
        """Wait until the bridge has given a receipt for everything in the car."""
        async with _within(ARRIVAL_S, "receipts for all entries of the car"):
            while (  # noqa: ASYNC110 - the wire is observed, it wakes nobody
                self._story.receipted(car.vehicle_id) < car.devices.witness.last_seq
            ):
                await asyncio.sleep(LOOK_S)

    # --- asking the bridge ----------------------------------------------------------

    async def _receipted(self, rental_id: str) -> dict[str, Any]:
        """Wait until the bridge has the report and has signed its receipt."""
        async with _within(ARRIVAL_S, "the report and its receipt at the bridge"):
            while True:
                rental = await self._get(f"/v1/rentals/{rental_id}")
                if rental["report"] and rental["evidence"]["receipt"]["frame"]:
                    return rental
                await asyncio.sleep(LOOK_S)

    async def _get(self, path: str) -> dict[str, Any]:
        async with self._api.get(path) as answer:
            answer.raise_for_status()
            document: dict[str, Any] = await answer.json()
            return document


@asynccontextmanager
async def _within(limit_s: float, missing: str) -> AsyncIterator[None]:
    """Bound a wait, and name what did not come."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError:
        raise StepError(f"waited {limit_s:g} s for {missing}") from None
