"""A bridge that was taken over brings no fleet a configuration without the signature of
a second person (K14, K28, adr/0022)."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.approvals import Approval, Cause, Wanted, WantedBody
from bridge.consent import (
    build_consent,
    consent_to,
    parse_consent,
    parse_statement,
    statement_of,
)
from bridge.signing.journal import faults_of, read_log
from bridge.signing.messages import Ask, Greeting, Inbox, Refused, Signed, encode
from bridge.signing.settings import SecondPersonSettings
from certs.fleet import FleetDirectory
from protocol.codes import ClockQuality, ConfigKind, FrameClass, Lane, Opcode
from protocol.command import COMMANDS, build_command
from protocol.frame import Header, build_unsigned
from protocol.identity import VehicleId
from protocol.keys import Ed25519SigningKey, SigningKey
from protocol.sync import (
    SYNC_SCHEMA,
    SYNC_TYPE_OF,
    Challenge,
    ConfigChunk,
    ConfigOffer,
    FleetTime,
    SyncBody,
    build_sync,
)
from tests.bridge.test_second_person import ANNA, HOLD, anna
from tests.bridge.test_signing_socket import (
    folder,
    header_of,
    service_of,
    service_settings,
)
from tests.bridge.world import BOOT_MS, NOW_MS

__all__ = ["folder"]

AREA, DAMAGE = ConfigKind.BUSINESS_AREA, ConfigKind.KNOWN_DAMAGE
HERE, NOWHERE = b'{"zones":["here"]}', b'{"zones":[]}'
CARS = [VehicleId(bytes([n] * 16)) for n in range(1, 6)]
DAY_MS = 86_400_000


def offer_of(
    body: bytes, kind: ConfigKind = AREA, *, version: int = 1, length: int | None = None
) -> ConfigOffer:
    digest = hashlib.sha256(body).digest()
    return ConfigOffer(kind, version, len(body) if length is None else length, digest)


def approval_of(
    body: bytes, *cars: VehicleId, kind: ConfigKind = AREA, by: str = "otto", now: int
) -> Approval:
    return Approval(
        row_id=1,
        approval_id=bytes([9] * 16),
        wanted=Wanted(cars, None, b"", configuration=WantedBody(kind, body)),
        cause=Cause.MANY_VEHICLES,
        digest=bytes(32),
        asked_by=by,
        asked_ms=now,
        expires_ms=now + 900_000,
    )


class Thief:
    """Who owns the bridge: they have its socket, and may ask for what they like."""

    def __init__(self, fleet: FleetDirectory, folder: Path) -> None:
        self.fleet = fleet
        self.now = NOW_MS
        self.seq = 0
        self.settings = msgspec.structs.replace(
            service_settings(fleet, folder),
            second_person=SecondPersonSettings(vehicles=2),
            approver=(anna(),),
        )

    @contextlib.asynccontextmanager
    async def at_a_signer(self) -> AsyncIterator[None]:
        """Start a signer with the log that is there, and talk to its socket."""
        service = service_of(self.fleet, self.settings, now=lambda: self.now)
        async with service.serve():
            self.reader, self.writer = await asyncio.open_unix_connection(
                self.settings.socket.path
            )
            self.inbox = Inbox()
            assert isinstance(await self._answer(), Greeting)
            yield
            self.writer.close()

    async def _answer(self) -> object:
        while True:
            for message in self.inbox.take(await self.reader.read(65_536)):
                return message

    async def have(self, header: Header, payload: bytes, consent: bytes) -> str:
        """Have a frame signed; return why it is not, empty if it is."""
        self.seq += 1
        header = replace(header, seq=self.seq, wall_ms=self.now, msg_id=bytes(16))
        unsigned = build_unsigned(header, payload)
        self.writer.write(encode(Ask(self.seq, 1, BOOT_MS, unsigned, consent)))
        answer = await self._answer()
        if isinstance(answer, Refused):
            self.retry_after_s = answer.retry_after_s
            return answer.message
        assert isinstance(answer, Signed)
        return ""

    async def send(self, car: VehicleId, body: SyncBody, consent: bytes = b"") -> str:
        header = replace(
            header_of(self.fleet),
            frame_class=FrameClass.SYNC,
            type=SYNC_TYPE_OF[type(body)],
            schema=SYNC_SCHEMA,
            lane=Lane.TRUST,
            vehicle_id=car,
        )
        return await self.have(header, build_sync(body), consent)

    async def offer(
        self,
        car: VehicleId,
        body: bytes = NOWHERE,
        consent: bytes = b"",
        kind: ConfigKind = AREA,
    ) -> str:
        return await self.send(car, offer_of(body, kind), consent)

    def consent(
        self,
        body: bytes,
        *cars: VehicleId,
        kind: ConfigKind = AREA,
        by: str = "otto",
        key: SigningKey = ANNA,
        **changes: Any,
    ) -> bytes:
        """Return the consent of a person to an approval of the bridge's."""
        approval = approval_of(body, *cars, kind=kind, by=by, now=self.now)
        data = statement_of(approval, self.fleet.fleet.fleet_id)
        if changes:
            stated = msgspec.structs.replace(parse_statement(data), **changes)
            data = msgspec.msgpack.encode(stated)
        return build_consent(consent_to(data, key, now=self.now))

    async def spend(self) -> None:
        """Reach as many cars as one may without a consent."""
        for car in CARS[3:]:
            assert await self.offer(car) == ""

    def told(self) -> list[Any]:
        entries = list(read_log(Path(self.settings.log)))
        assert faults_of(entries) == []
        return [entry.facts for entry in entries]


def edited(consent: bytes, **changes: Any) -> bytes:
    """Put something else into what was signed."""
    found = parse_consent(consent)
    stated = msgspec.structs.replace(parse_statement(found.statement), **changes)
    data = msgspec.msgpack.encode(stated)
    return build_consent(msgspec.structs.replace(found, statement=data))


def order_consent(thief: Thief) -> bytes:
    """Return a consent to hold the engine of the same car."""
    wanted = Wanted((CARS[0],), Opcode.ENGINE_HOLD, build_command(HOLD))
    approval = replace(approval_of(NOWHERE, CARS[0], now=thief.now), wanted=wanted)
    data = statement_of(approval, thief.fleet.fleet.fleet_id)
    return build_consent(consent_to(data, ANNA, now=thief.now))


@pytest.fixture
def thief(fleet: FleetDirectory, folder: Path) -> Thief:
    return Thief(fleet, folder)


async def test_a_mass_configuration_stops_at_the_signers_own_count(
    thief: Thief,
) -> None:
    # K28, K14: an empty business area for all, whatever the bridge counted.
    async with thief.at_a_signer():
        first = [await thief.offer(car) for car in CARS[:3]]
        wait_s = thief.retry_after_s
        other_kind = await thief.offer(CARS[2], kind=DAMAGE)
        same_cars = [await thief.offer(car, HERE) for car in CARS[:2]]
        consent = thief.consent(NOWHERE, *CARS[2:])
        consented = [await thief.offer(car, NOWHERE, consent) for car in CARS[2:]]
        thief.now += 600_000
        later = await thief.offer(CARS[2], HERE)

    assert first[:2] == ["", ""]
    assert "2 vehicles got configurations that no approver signed" in first[2]
    assert "no approver" in other_kind
    assert (wait_s, same_cars, consented, later) == (600, ["", ""], ["", "", ""], "")
    told = thief.told()
    assert [f["class"] for f in told].count("refused") == 2
    digest = hashlib.sha256(NOWHERE).hexdigest()
    signed = [f for f in told if f.get("approver") == "anna"]
    assert [(f["kind"], f["sha256"]) for f in signed] == [("config", digest)] * 3


async def test_what_offers_nothing_needs_nobody(thief: Thief) -> None:
    # A chunk without an offer is dropped by the car; time and challenges move nothing.
    async with thief.at_a_signer():
        await thief.spend()
        bodies: list[SyncBody] = [
            ConfigChunk(AREA, 1, 0, b"x"),
            Challenge(bytes(16)),
            FleetTime(ClockQuality.NTP),
        ]
        found = [await thief.send(CARS[0], body) for body in bodies]

    assert found == [""] * 3


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda t: t.consent(HERE, CARS[0]), "another configuration"),
        (lambda t: t.consent(NOWHERE, CARS[0], kind=DAMAGE), "another configuration"),
        (lambda t: t.consent(NOWHERE, CARS[0], length=9), "another configuration"),
        (lambda t: t.consent(NOWHERE, *CARS[1:]), "does not name"),
        (lambda t: t.consent(NOWHERE, CARS[0], by="anna"), "second person must"),
        (lambda t: t.consent(NOWHERE, CARS[0], by="oidc:anna@x"), "second person must"),
        (
            lambda t: t.consent(NOWHERE, CARS[0], key=Ed25519SigningKey.generate()),
            "knows no approver",
        ),
        (lambda t: t.consent(NOWHERE, CARS[0], fleet_id=bytes(16)), "another fleet"),
        (
            lambda t: t.consent(NOWHERE, CARS[0], expires_ms=NOW_MS - 1),
            "not count now",
        ),
        (
            lambda t: edited(t.consent(NOWHERE, *CARS[1:]), vehicle_ids=(CARS[0].raw,)),
            "does not hold",
        ),
        (
            lambda t: edited(
                t.consent(HERE, CARS[0]),
                sha256=hashlib.sha256(NOWHERE).digest(),
                length=len(NOWHERE),
            ),
            "does not hold",
        ),
        (order_consent, "another configuration"),
        (lambda _: b"\xff", "no consent"),
    ],
)
async def test_a_consent_to_something_else_or_of_somebody_else_is_refused(
    thief: Thief, made: Callable[[Thief], bytes], said: str
) -> None:
    # K28
    async with thief.at_a_signer():
        await thief.spend()

        refused = await thief.offer(CARS[0], NOWHERE, made(thief))

    assert said in refused
    assert said in thief.told()[-1]["why"]


async def test_a_consent_to_a_configuration_holds_no_engine(thief: Thief) -> None:
    # K28
    opcode = Opcode.ENGINE_HOLD
    header = replace(
        header_of(thief.fleet),
        type=opcode,
        lane=COMMANDS[opcode].lane,
        vehicle_id=CARS[0],
    )
    consent = thief.consent(NOWHERE, CARS[0])
    async with thief.at_a_signer():
        refused = await thief.have(header, build_command(HOLD), consent)

    assert "another order" in refused


async def test_a_consent_is_used_once_and_the_latest_counts(thief: Thief) -> None:
    # K28: neither replayed nor held back does a consent bring an old body again.
    car, late = CARS[0], CARS[1]
    old = thief.consent(NOWHERE, car, late)
    thief.now += 1_000
    async with thief.at_a_signer():
        await thief.spend()
        used = await thief.offer(car, NOWHERE, old)
        thief.now += 1_000
        new = thief.consent(HERE, car, late)
        then = [await thief.offer(one, HERE, new) for one in (car, late)]
        replayed = await thief.offer(car, NOWHERE, old)
        held_back = await thief.offer(late, NOWHERE, old)

    assert (used, then) == ("", ["", ""])
    assert "was used for this vehicle" in replayed
    assert "older than what the vehicle got" in held_back


async def test_what_a_car_was_offered_last_needs_no_consent_again(
    thief: Thief,
) -> None:
    # A link that breaks, a car whose flash is replaced: the same body comes again.
    car, other = CARS[0], CARS[1]
    async with thief.at_a_signer():
        await thief.spend()
        consent = thief.consent(NOWHERE, car, other)
        assert await thief.offer(car, NOWHERE, consent) == ""
        bare = await thief.offer(car)
        thief.now += 40 * DAY_MS
        much_later = await thief.offer(car, NOWHERE, consent)
        not_counted = [await thief.offer(one, HERE) for one in CARS[3:]]

    assert (bare, much_later, not_counted) == ("", "", ["", ""])


async def test_a_consent_waits_a_day_for_a_car_and_no_longer(thief: Thief) -> None:
    # K28: after that the car is one of those that nobody consented to.
    consent = thief.consent(NOWHERE, *CARS[:3])
    async with thief.at_a_signer():
        thief.now += DAY_MS - 90_000
        await thief.spend()
        within = await thief.offer(CARS[0], NOWHERE, consent)
        thief.now += 90_000
        too_old = await thief.offer(CARS[1], NOWHERE, consent)
        alone = await thief.offer(CARS[1])
        thief.now += 600_000
        in_its_turn = await thief.offer(CARS[1])

    assert (within, in_its_turn) == ("", "")
    assert "too old" in too_old
    assert "no approver signed" in alone


async def test_a_restart_of_the_signer_wins_a_thief_nothing(thief: Thief) -> None:
    # K28, K14: count, use and what each car got stand in the log.
    car = CARS[0]
    async with thief.at_a_signer():
        await thief.spend()
        old = thief.consent(NOWHERE, car)
        thief.now += 1
        assert await thief.offer(car, NOWHERE, old) == ""
        assert await thief.offer(car, HERE, thief.consent(HERE, car)) == ""
    async with thief.at_a_signer():
        again = await thief.offer(car, HERE)
        replayed = await thief.offer(car, NOWHERE, old)
        forged = edited(old, approval_id=bytes([8] * 16))
        other_approval = await thief.offer(car, NOWHERE, forged)
        mass = await thief.offer(CARS[1])

    assert again == ""
    assert "was used for this vehicle" in replayed
    assert "does not hold" in other_approval
    assert "no approver signed" in mass


async def test_no_offer_is_the_last_that_a_car_can_take(thief: Thief) -> None:
    # Versions rise: the highest one would keep every later body from the car.
    car = CARS[0]
    async with thief.at_a_signer():
        highest = await thief.send(car, offer_of(HERE, version=0xFFFF_FFFF))
        latest = await thief.send(car, offer_of(HERE, version=NOW_MS // 1000))

    assert "above the seconds" in highest
    assert latest == ""


async def test_where_it_is_not_required_configurations_need_nobody(
    thief: Thief,
) -> None:
    free = SecondPersonSettings(required=False, vehicles=1)
    thief.settings = msgspec.structs.replace(thief.settings, second_person=free)
    async with thief.at_a_signer():
        found = [await thief.offer(car) for car in CARS]

    assert found == [""] * len(CARS)
