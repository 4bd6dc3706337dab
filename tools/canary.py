"""A car that nobody drives, on the real path: broker, bridge, store, consumers.

Each step does one thing that a customer's car does, or one that nobody may do, and says
what came. Steps go in order; where one that others rest on fails, those are not
reached, and never called passed.

The canary keeps its ledger in a file beside its keys, so that it tells no loss of a
ledger each time; also the entries without a receipt, which the next run sends again, as
a car does. Its rental has no length and no place; consumers that
bill pass over its vehicle.
"""

import asyncio
import json
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from enum import StrEnum, unique
from pathlib import Path
from typing import Any, Final

from protocol.codes import AccessMeans, Bits, ClockQuality, EndReason, FrameClass
from protocol.command import Ping
from protocol.entry import entry_hash
from protocol.errors import ProtocolError
from protocol.event import RentalEnded, RentalStarted
from protocol.fleet import VehiclePart
from protocol.identity import VehicleId
from protocol.receipt import Receipt
from protocol.sync import Challenge
from protocol.topic import topic_of
from tools.bridge_api import BridgeApi
from tools.clock import read_clock, wall_s
from tools.conformance.bridge_player import SNAPSHOT, Player
from tools.conformance.bridge_subject import Patience, PlayedCar
from tools.conformance.check import NotReachedError
from tools.errors import OperatorError
from tools.strange_certificate import strange_identity
from transport.errors import (
    LinkError,
    LinkFailure,
    PublishRefusedError,
    RefusedError,
    TransportError,
)
from transport.link import LinkSettings, MqttLink
from transport.tls import client_context

LIMIT_S: Final = 90.0
"""All of it together (issue 5, point 8)."""

ANSWER_S: Final = 20.0
"""For one answer: a loaded bridge needs far less."""

QUIET_S: Final = 1.0
"""How long is waited for what must not come."""

LOOK_S: Final = 0.2
"""Between two looks at what no event tells of."""

_NOT_ASKED: Final = {LinkFailure.UNREACHABLE, LinkFailure.DOWN, LinkFailure.NAME}
"""Failures that say nothing about what the broker thinks of a stranger."""

STATE_FILE: Final = "canary.json"


@unique
class Outcome(StrEnum):
    """How a step went."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    NOT_REACHED = "not reached"


@dataclass(frozen=True, slots=True)
class Step:
    """One step and what came."""

    name: str
    """What was done."""
    outcome: Outcome
    """How it went."""
    came: str
    """What was seen, for people."""
    took_s: float
    """How long it took."""


class StepFailedError(Exception):
    """A step saw something else than it must; caught where steps are run."""


Deed = Callable[[], Awaitable[str]]


class Canary:
    """One run; `run` it once."""

    def __init__(
        self, directory: Path, broker: tuple[str, int], api: BridgeApi, *, days: int
    ) -> None:
        """Read the car's keys.

        Args:
            directory: of a vehicle of its own, as `freefloat certs issue` makes it.
            broker: host and port.
            api: of the bridge.
            days: whatever ends sooner fails the first step.

        Raises:
            OperatorError: it is no vehicle's directory.
        """
        try:
            player = Player(directory)
        except (ProtocolError, OSError) as error:
            raise OperatorError(
                f"{directory} is no vehicle's directory: {error}",
                "give one that 'freefloat certs issue' made, of a car that is no other",
            ) from error
        self._directory = directory
        self._broker = broker
        self._api = api
        self._days = days
        self._car = PlayedCar(player, broker, Patience(ANSWER_S, QUIET_S))
        self._stack = AsyncExitStack()
        self._rental = secrets.token_bytes(16)
        self._end = b""
        self._unreceipted: list[tuple[FrameClass, bytes]] = []

    async def run(self, told: Callable[[Step], None]) -> list[Step]:
        """Take every step, tell of each as it ends, and return them."""
        steps: list[Step] = []
        deeds: tuple[tuple[str, bool, Deed], ...] = (
            ("the bridge is ready, and nothing ends soon", False, self._ready),
            ("the car connects with its certificate", True, self._connect),
            ("a hello is answered by a receipt", True, self._greet),
            ("a ping comes signed, and its result ends it", False, self._ping),
            ("a rental begins and ends with receipts", True, self._rent),
            ("every consumer has the rental's end", False, self._deliver),
            ("the same frame again changes nothing", False, self._replay),
            ("a forged frame gets no receipt", False, self._forge),
            ("a strange certificate does not get in", False, self._intrude),
            ("another car's topics are refused", False, self._trespass),
        )
        is_blocked = ""
        async with self._stack:
            end_s = time.monotonic() + LIMIT_S
            for name, is_needed, deed in deeds:
                begun_s = time.monotonic()
                if is_blocked:
                    step = Step(name, Outcome.NOT_REACHED, is_blocked, 0.0)
                else:
                    outcome, came = await _outcome(deed, end_s - begun_s)
                    step = Step(name, outcome, came, time.monotonic() - begun_s)
                    if outcome is not Outcome.PASS and is_needed:
                        is_blocked = f"needs that {name}"
                told(step)
                steps.append(step)
        return steps

    async def _ready(self) -> str:
        found = await self._get("/ready")
        days: dict[str, int] = found["days_left"]
        soon = [f"{name}: {left} days" for name, left in days.items()]
        if any(left < self._days for left in days.values()):
            raise StepFailedError("ends too soon: " + ", ".join(soon))
        return "days left: " + ", ".join(soon)

    async def _connect(self) -> str:
        await self._stack.enter_async_context(self._car)
        return f"{self._car.player.vehicle_id} at {self._broker[0]}:{self._broker[1]}"

    async def _greet(self) -> str:
        car, player = self._car, self._car.player
        if self._load():
            await car.restart()
            mark = car.wire.mark
            receipt = await self._receipt_of_hello()
            if receipt is None:
                raise StepFailedError("no receipt came")
            missing = player.seq - receipt.upto
            if 0 < missing <= len(self._unreceipted):
                for frame_class, data in self._unreceipted[-missing:]:
                    await car.send(data, frame_class)
                receipt = await car.receipt(player.head, since=mark) or receipt
            if (receipt.upto, receipt.head_hash) == (player.seq, player.head):
                self._unreceipted.clear()
                self._save()
                return f"the ledger goes on at {player.seq}"
        self._unreceipted.clear()
        await car.begin()
        self._save()
        return "a new ledger begins"

    async def _receipt_of_hello(self) -> Receipt | None:
        """Say hello, and again if the bridge asks whether this is the car."""
        for _ in range(2):
            mark = self._car.wire.mark
            await self._car.greet()
            said = await self._car.first(
                lambda one: isinstance(one.body, Receipt | Challenge), since=mark
            )
            if said is None:
                return None
            if isinstance(said.body, Receipt):
                return said.body
        return None

    async def _ping(self) -> str:
        car = self._car
        mark, begun_s = car.wire.mark, time.monotonic()
        ordering = asyncio.create_task(self._order_ping())
        try:
            command = await car.first(
                lambda one: isinstance(one.body, Ping), since=mark
            )
            if command is None:
                if ordering.done():
                    await ordering
                raise StepFailedError("no signed PING came for an order")
            result = car.player.result(command.frame.data)
            await self._append(result, FrameClass.RESULT)
            ended = await ordering
        finally:
            ordering.cancel()
        if ended["state"] != "succeeded":
            raise StepFailedError(f"the bridge says that it is {ended['state']}")
        return f"succeeded after {(time.monotonic() - begun_s) * 1000:.0f} ms"

    async def _order_ping(self) -> dict[str, Any]:
        name = str(self._car.player.vehicle_id)
        ended: dict[str, Any] = await asyncio.to_thread(
            self._api.post_command, name, {"kind": "ping"}, wait_s=ANSWER_S
        )
        return ended

    async def _rent(self) -> str:
        player = self._car.player
        begun_ms = round(wall_s() * 1000)
        started = RentalStarted(
            self._rental, AccessMeans.COMMAND, SNAPSHOT.odometer_m, 60, None, None
        )
        await self._append(player.event(started))
        self._end = player.event(self._report(begun_ms))
        await self._append(self._end)
        found = await self._get(f"/v1/rentals/{self._rental.hex()}")
        if found["state"] != "ended":
            raise StepFailedError(f"the bridge says that it is {found['state']}")
        return f"rental {self._rental.hex()[:8]} is ended, entry {player.seq}"

    def _report(self, begun_ms: int) -> RentalEnded:
        odometer_m = SNAPSHOT.odometer_m
        return RentalEnded(
            rental_id=self._rental,
            reason=EndReason.COMMAND,
            authority=bytes(32),
            started_wall_ms=begun_ms,
            ended_wall_ms=begun_ms,
            started_quality=ClockQuality.NTP,
            ended_quality=ClockQuality.NTP,
            estimated=False,
            total_ms=0,
            parking_ms=0,
            driving_min=0,
            parking_min=0,
            start_odometer_m=odometer_m,
            end_odometer_m=odometer_m,
            distance_m=0,
            start_energy_pct=60,
            end_energy_pct=60,
            lowest_energy_pct=60,
            refuel_gain_pct=0,
            start_washer_pct=None,
            end_washer_pct=None,
            range_km=None,
            bits=Bits.LOCKED,
        )

    async def _deliver(self) -> str:
        newest = max((s["newest"] for s in await self._sinks()), default=0)
        deadline_s = time.monotonic() + ANSWER_S
        while True:
            sinks = await self._sinks()
            behind = [s for s in sinks if s["position"] < newest]
            if not behind:
                names = ", ".join(sink["name"] for sink in sinks)
                return f"taken by {names}" if sinks else "there is no consumer"
            if time.monotonic() > deadline_s:
                waits = (f"{s['name']} ({s['last_error'] or 'waits'})" for s in behind)
                raise StepFailedError("not taken by " + ", ".join(waits))
            await asyncio.sleep(LOOK_S)

    async def _replay(self) -> str:
        car, player = self._car, self._car.player
        before = await self._get(f"/v1/rentals/{self._rental.hex()}")
        mark = car.wire.mark
        await car.send(self._end)
        receipt = await car.receipt_that(lambda _: True, since=mark)
        if receipt is None:
            raise StepFailedError("no receipt came, so a car would send it for ever")
        if (receipt.upto, receipt.head_hash) != (player.seq, player.head):
            raise StepFailedError(f"the ledger is at {receipt.upto} after it")
        after = await self._get(f"/v1/rentals/{self._rental.hex()}")
        after["evidence"]["receipt"] = before["evidence"]["receipt"]
        if after != before:
            raise StepFailedError("the rental is another one after it")
        return "the ledger and the rental are as they were"

    async def _forge(self) -> str:
        car = self._car
        good = car.player.started()
        forged = good[:-1] + bytes([good[-1] ^ 1])
        mark = car.wire.mark
        await car.send(forged)
        if await car.receipt_that(
            lambda one: one.upto >= car.player.seq, since=mark, within_s=QUIET_S
        ):
            raise StepFailedError("a receipt came for a frame that nobody signed")
        await self._append(good)
        return "refused, and the good frame in its place was taken"

    async def _intrude(self) -> str:
        name = str(self._car.player.vehicle_id)
        anchors = self._directory / VehiclePart.TRUST_ANCHORS
        with tempfile.TemporaryDirectory() as folder:
            identity = strange_identity(
                Path(folder), name=name, anchors=anchors, now=read_clock()
            )
            link = MqttLink(
                LinkSettings(*self._broker, client_id=name),
                client_context(identity, now=read_clock()),
            )
            try:
                async with link:
                    await link.subscribe(f"ff/v1/{name}/down/+")
            except LinkError as error:
                if error.failure in _NOT_ASKED:
                    raise StepFailedError(f"could not be tried: {error}") from error
                return f"refused ({error.failure})"
            except RefusedError:
                pass
        raise StepFailedError("whoever makes a certificate is let in as this car")

    async def _trespass(self) -> str:
        """Publish as a car that there is not, and listen to all others."""
        # What follows may cost the link; one that is lost already proves nothing.
        await self._car.quiet()
        wire, own = self._car.wire, f"ff/v1/{self._car.player.vehicle_id}/"
        topic = topic_of(VehicleId(secrets.token_bytes(16)), FrameClass.EVENT)
        said = "publishing was dropped"
        try:
            await wire.publish(topic, self._end)
        except PublishRefusedError:
            said = "publishing was refused"
        except TransportError:
            said = "publishing cost the link"
        # A broker may grant the filter and yet deliver nothing of it.
        with suppress(TransportError):
            await wire.listen("ff/v1/#")
            await self._car.quiet()
        heard = [seen.topic for seen in wire.seen if not seen.topic.startswith(own)]
        if heard:
            raise StepFailedError(f"the broker lets this car hear {heard[0]}")
        page = await self._get("/v1/dead-letters?limit=100")
        if any(letter["topic"] == topic for letter in page["letters"]):
            raise StepFailedError("the broker let it publish as another car")
        return f"{said}, and nothing of others was heard"

    async def _append(
        self, data: bytes, frame_class: FrameClass = FrameClass.EVENT
    ) -> None:
        """Keep an entry, send it, wait for its receipt, and keep that it came."""
        self._unreceipted.append((frame_class, data))
        self._save()
        mark = self._car.wire.mark
        await self._car.send(data, frame_class)
        if await self._car.receipt(entry_hash(data), since=mark) is None:
            raise StepFailedError(f"no receipt came for entry {self._car.player.seq}")
        self._unreceipted.clear()
        self._save()

    def _load(self) -> bool:
        """Take up the ledger of the last run; False if there is none."""
        player = self._car.player
        with suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads((self._directory / STATE_FILE).read_text("ascii"))
            ledger_id, head = (bytes.fromhex(kept[k]) for k in ("ledger_id", "head"))
            player.ledger_id, player.seq, player.head = (
                ledger_id,
                int(kept["seq"]),
                head,
            )
            self._unreceipted = [
                (FrameClass(number), bytes.fromhex(text))
                for number, text in kept.get("unreceipted", [])
            ]
            return True
        return False

    def _save(self) -> None:
        player = self._car.player
        kept = {
            "ledger_id": player.ledger_id.hex(),
            "seq": player.seq,
            "head": player.head.hex(),
            "unreceipted": [(int(c), data.hex()) for c, data in self._unreceipted],
        }
        path = self._directory / STATE_FILE
        # Lost or torn, it only costs a new ledger.
        path.write_text(json.dumps(kept), encoding="ascii")

    async def _sinks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self._get("/v1/sinks"))["sinks"]
        return found

    async def _get(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = await asyncio.to_thread(self._api.get, path)
        return found


async def _outcome(deed: Deed, left_s: float) -> tuple[Outcome, str]:
    try:
        async with asyncio.timeout(max(left_s, 0)):
            return Outcome.PASS, await deed()
    except TimeoutError:
        return Outcome.FAIL, f"the {LIMIT_S:.0f} s for all of it are over"
    except OperatorError as error:
        return Outcome.FAIL, error.sentence
    except (StepFailedError, NotReachedError, TransportError, OSError) as error:
        return Outcome.FAIL, str(error)
