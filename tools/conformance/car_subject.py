"""A car as its backend sees it: MQTT topics, signed frames, nothing else.

The kit signs for the car's session, paces itself below the car's bound on signature
checks and on answers for a key, and receipts what the car says so that it can go on.
Receipts rest on the kit's own copy of the ledger.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from protocol.codes import FrameClass, FrameType, Lane
from protocol.command import COMMANDS, OPCODE_OF, Command, Ping
from protocol.content import Body, parse_content
from protocol.entry import EntryLink, entry_hash
from protocol.errors import ProtocolError
from protocol.frame import Header
from protocol.hello import Hello
from protocol.identity import VehicleId
from protocol.receipt import RECEIPT, Receipt
from protocol.result import Result
from protocol.signing import verify_frame
from protocol.snapshot import NO_RENTAL
from protocol.sync import SYNC_TYPE_OF, Challenge, Resend, SyncBody, build_sync
from protocol.topic import topic_of
from tools.conformance.car_frames import Draft
from tools.conformance.car_inputs import Inputs, Signer
from tools.conformance.check import NotReachedError, Suite
from tools.conformance.wire import Seen, Wire

ANY_VERSION: Final = 0xFFFF_FFFF
SYNC_LIFE_MS: Final = 20_000
MARGIN_MS: Final = 1_500
"""A command lives so much less than its cap: the estimate of the car's clock may be
behind by the way of a frame."""
FRAMES_BURST: Final = 40
FRAMES_PER_S: Final = 20.0
ANSWERS_BURST: Final = 6
ANSWERS_PER_S: Final = 0.9
"""Below the car's own bounds (FF-AUTH-07, FF-CMD-15), which would drop the rest."""
CREDIT: Final = 200


@dataclass(frozen=True, slots=True)
class Said:
    """A frame of the car whose signature holds and whose payload is canonical."""

    seen: Seen
    header: Header
    link: EntryLink | None
    body: Body


@dataclass(frozen=True, slots=True)
class Order:
    """A command frame of the kit."""

    draft: Draft
    data: bytes
    signer: Signer
    mark: int
    """What came when it was made; the answer comes later."""

    @property
    def msg_id(self) -> bytes:
        """16 bytes."""
        return self.draft.msg_id


class Pace:
    """A bucket on our side of what the car bounds on its own."""

    def __init__(self, burst: float, per_s: float) -> None:
        self._burst, self._per_s = burst, per_s
        self._left, self._at_s = burst, time.monotonic()

    def wait_s(self) -> float:
        """Return how long until one more is allowed."""
        now_s = time.monotonic()
        self._left = min(self._burst, self._left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        return max(0.0, (1 - self._left) / self._per_s)

    def take(self) -> None:
        """Count one."""
        self._left -= 1


class Car:
    """One car under test."""

    def __init__(self, wire: Wire, inputs: Inputs) -> None:
        """Begin without knowing anything of it."""
        self.wire, self.inputs = wire, inputs
        self.commanders = inputs.commanders(0)
        self.hello: tuple[Said, Hello] | None = None
        """The newest hello."""
        self.orders: list[Order] = []
        """Every command that was sent as one that the car should answer."""
        self.syncs: list[Order] = []
        """Every SYNC frame that was made."""
        self.entries: dict[int, Seen] = {}
        """Each entry as it came first; the base is where the kit began."""
        self.base = 0
        """The newest entry before the kit came."""
        self.withheld = False
        """Whether receipts wait."""
        self._said: dict[int, Said | None] = {}
        self._absorbed = 0
        self._receipted = 0
        self._receipts = inputs.now_ms()
        self._seqs: dict[tuple[bytes, bytes, int], int] = {}
        self._frames = Pace(FRAMES_BURST, FRAMES_PER_S)
        self._answers: dict[bytes, Pace] = {}

    # -- what came --------------------------------------------------------------------

    def said(self, seen: Seen) -> Said | None:
        """Return what a message says, None if it is not authentic or not canonical."""
        if seen.number not in self._said:
            self._said[seen.number] = self._read(seen)
        return self._said[seen.number]

    def _read(self, seen: Seen) -> Said | None:
        if seen.frame is None:
            return None
        with suppress(ProtocolError):
            verify_frame(
                seen.frame, fleet_id=self.inputs.fleet_id, key=self.inputs.vehicle_key
            )
            content = parse_content(seen.frame)
            return Said(seen, seen.frame.header, content.link, content.body)
        return None

    def absorb(self) -> None:
        """Take in what came since the last time."""
        while self._absorbed < self.wire.mark:
            seen = self.wire.seen[self._absorbed]
            self._absorbed += 1
            said = self.said(seen)
            if said is None:
                continue
            if isinstance(said.body, Hello):
                newest = self.hello[0].header.seq if self.hello else -1
                if said.header.seq > newest:
                    self.hello = (said, said.body)
            elif said.link is not None and said.header.seq:
                self.entries.setdefault(said.header.seq, seen)

    def all_said(self, since: int = 0) -> list[Said]:
        """Return everything authentic that came from a mark on."""
        found = map(self.said, self.wire.since(since))
        return [said for said in found if said is not None]

    async def hear(
        self, wanted: Callable[[Said], bool], *, since: int, within_s: float = 0
    ) -> Said | None:
        """Return the first authentic frame from a mark on that is wanted."""

        def is_wanted(seen: Seen) -> bool:
            said = self.said(seen)
            return said is not None and wanted(said)

        seen = await self.wire.first(
            is_wanted, since=since, within_s=within_s or self.inputs.answer_s
        )
        self.absorb()
        return None if seen is None else self.said(seen)

    # -- what the car is --------------------------------------------------------------

    @property
    def greeting(self) -> Hello:
        """The newest hello's payload.

        Raises:
            NotReachedError: none came.
        """
        return self._newest()[1]

    @property
    def session_id(self) -> bytes:
        """The session of now."""
        return self._newest()[0].header.session_id

    @property
    def clock_ms(self) -> int:
        """The car's boot clock; by the way of a frame behind, never ahead."""
        said = self._newest()[0]
        since_s = time.monotonic() - said.seen.at_s
        return said.header.mono_ms + int(since_s * 1000)

    def _newest(self) -> tuple[Said, Hello]:
        self.absorb()
        if self.hello is None:
            raise NotReachedError(
                "the car said no hello: see that it runs, that it is connected to this "
                "broker, and that vehicle key and fleet id are right"
            )
        return self.hello

    async def meet(self) -> None:
        """Find the session of now: a command for another one makes the car say it.

        Raises:
            NotReachedError: no hello came.
        """
        deadline_s = time.monotonic() + 3 * self.inputs.answer_s
        while self.hello is None and time.monotonic() < deadline_s:
            mark = self.wire.mark
            await self.send(self.order(self.ping(), session_id=bytes(16), mono_ms=0))
            await self.hear(
                lambda said: isinstance(said.body, Hello), since=mark, within_s=2
            )
        hello = self.greeting
        self.commanders = self.inputs.commanders(hello.group) or self.commanders
        self.base = self._receipted = hello.head_seq
        if hello.head_seq:
            await self.receipt(hello.head_seq, hello.head_hash)

    async def renew(self) -> Hello:
        """Ask for a hello and return it.

        Raises:
            NotReachedError: none came that answers the challenge.
        """
        nonce = secrets.token_bytes(16)
        said = await self.challenge(nonce)
        if said is None:
            raise NotReachedError("no hello answered a CHALLENGE")
        return self.greeting

    async def challenge(self, nonce: bytes) -> Said | None:
        """Send a CHALLENGE and return the hello with its nonce."""
        mark = self.wire.mark
        await self.send(self.sync(Challenge(nonce)))
        return await self.hear(
            lambda said: isinstance(said.body, Hello) and said.body.nonce == nonce,
            since=mark,
        )

    # -- sending ----------------------------------------------------------------------

    def speaker(self) -> Signer:
        """Return the key that may be refused most now.

        Raises:
            NotReachedError: no key may sign every command.
        """
        if not self.commanders:
            raise NotReachedError(
                "no key was given that may sign every command, SYNC type and lane"
            )
        return min(self.commanders, key=lambda one: self._answer_pace(one).wait_s())

    def next_seq(self, signer: Signer, lane: int) -> int:
        """Return the next sequence of a key in a lane of this session."""
        session_id = self.session_id
        place = (session_id, signer.key_id, lane)
        known = max(
            (
                one.seq
                for one in self.greeting.lanes
                if (one.key_id, one.lane) == (signer.key_id, lane)
            ),
            default=0,
        )
        self._seqs[place] = max(self._seqs.get(place, 0), known) + 1
        return self._seqs[place]

    def ping(self) -> Ping:
        """Return a PING of its own."""
        return Ping(NO_RENTAL, ANY_VERSION, secrets.token_bytes(16))

    def order(
        self,
        body: Command,
        *,
        signer: Signer | None = None,
        **changes: Any,  # noqa: ANN401 - fields of a draft
    ) -> Order:
        """Make a command as a backend would, with other fields where they are named."""
        signer = self.speaker() if signer is None else signer
        opcode = OPCODE_OF[type(body)]
        rule = COMMANDS[opcode]
        life_ms = rule.ttl_limit_ms - MARGIN_MS
        is_known = self.hello is not None
        draft = Draft(
            frame_class=FrameClass.CMD,
            type=opcode,
            payload=rule.layout.build(body),
            vehicle_id=self.inputs.vehicle_id.raw,
            key_id=signer.key_id,
            session_id=self.session_id if is_known else bytes(16),
            seq=0,
            mono_ms=self.clock_ms + life_ms if is_known else 0,
            wall_ms=self.inputs.now_ms(),
            msg_id=secrets.token_bytes(16),
            lane=rule.lane,
            suite=signer.key.suite,
        ).with_(**changes)
        if "seq" not in changes and is_known:
            draft = draft.with_(seq=self.next_seq(signer, rule.lane))
        return self.made(draft, signer)

    def sync(
        self,
        body: SyncBody,
        *,
        signer: Signer | None = None,
        **changes: Any,  # noqa: ANN401 - fields of a draft
    ) -> Order:
        """Make a SYNC frame."""
        signer = self.commanders[0] if signer is None else signer
        draft = Draft(
            frame_class=FrameClass.SYNC,
            type=SYNC_TYPE_OF[type(body)],
            payload=build_sync(body),
            vehicle_id=self.inputs.vehicle_id.raw,
            key_id=signer.key_id,
            session_id=self.session_id,
            seq=0,
            mono_ms=self.clock_ms + SYNC_LIFE_MS,
            wall_ms=self.inputs.now_ms(),
            msg_id=secrets.token_bytes(16),
            suite=signer.key.suite,
        ).with_(**changes)
        if "seq" not in changes:
            draft = draft.with_(seq=self.next_seq(signer, Lane.TRUST))
        self.syncs.append(self.made(draft, signer))
        return self.syncs[-1]

    def made(self, draft: Draft, signer: Signer, *, label: str | None = None) -> Order:
        """Sign a draft."""
        data = draft.signed(signer.key, fleet_id=self.inputs.fleet_id, label=label)
        return Order(draft, data, signer, self.wire.mark)

    async def send(self, order: Order, *, retain: bool = False) -> None:
        """Send a frame on the topic of its class."""
        frame_class = FrameClass(order.draft.frame_class)
        if frame_class is FrameClass.CMD:
            self.orders.append(order)
            pace = self._answer_pace(order.signer)
            await asyncio.sleep(pace.wait_s())
            pace.take()
        await self.put(frame_class, order.data, retain=retain)

    async def put(
        self,
        frame_class: FrameClass,
        data: bytes,
        *,
        vehicle_id: VehicleId | None = None,
        retain: bool = False,
    ) -> None:
        """Publish bytes on a topic of the car, not faster than it looks at them."""
        await asyncio.sleep(self._frames.wait_s())
        self._frames.take()
        topic = topic_of(vehicle_id or self.inputs.vehicle_id, frame_class)
        await self.wire.publish(topic, data, retain=retain)

    async def answer(self, order: Order, *, since: int | None = None) -> Said | None:
        """Return the RESULT that names a command, None if none comes in time."""
        mark = order.mark if since is None else since
        said = await self.hear(
            lambda one: (
                isinstance(one.body, Result) and one.body.request_id == order.msg_id
            ),
            since=mark,
        )
        await self.keep()
        return said

    async def ask(
        self,
        body: Command,
        *,
        signer: Signer | None = None,
        **changes: Any,  # noqa: ANN401 - fields of a draft
    ) -> tuple[Order, Said | None]:
        """Make and send a command; returns it and its RESULT."""
        order = self.order(body, signer=signer, **changes)
        await self.send(order)
        return order, await self.answer(order)

    async def fence(self) -> bool:
        """Send a PING and wait for its result: what was sent before has been judged."""
        _, said = await self.ask(self.ping())
        await self.wire.quiet(self.inputs.silence_s)
        self.absorb()
        return said is not None

    async def require_fence(self) -> None:
        """As `fence`.

        Raises:
            NotReachedError: a right PING was not answered, so silence says nothing.
        """
        if not await self.fence():
            raise NotReachedError("a right PING was not answered")

    def _answer_pace(self, signer: Signer) -> Pace:
        return self._answers.setdefault(
            signer.key_id, Pace(ANSWERS_BURST, ANSWERS_PER_S)
        )

    # -- receipts ---------------------------------------------------------------------

    @property
    def top(self) -> int:
        """The newest entry of which the kit has every one before."""
        self.absorb()
        top = self._receipted
        while top + 1 in self.entries:
            top += 1
        return top

    async def keep(self) -> None:
        """Receipt what came, so that the car may go on, unless receipts wait."""
        top = self.top
        if self.withheld or top == self._receipted:
            return
        self._receipted = top
        await self.receipt(top, entry_hash(self.entries[top].data))

    async def receipt(self, upto: int, head_hash: bytes, **more: Any) -> None:  # noqa: ANN401 - fields of a draft
        """Send a receipt of ours."""
        data = self.receipt_frame(upto, head_hash, **more)
        await self.put(FrameClass.RECEIPT, data.data)

    def receipt_frame(
        self,
        upto: int,
        head_hash: bytes,
        *,
        signer: Signer | None = None,
        credit: int = CREDIT,
        gaps: tuple[Any, ...] = (),
        rejects: tuple[Any, ...] = (),
        ledger_id: bytes | None = None,
        payload: bytes | None = None,
        **changes: Any,  # noqa: ANN401 - fields of a draft
    ) -> Order:
        """Make a receipt, with other fields where they are named."""
        if signer is None:
            signers = self.inputs.receipt_signers()
            if not signers:
                raise NotReachedError("no key of role RECEIPT was given")
            signer = signers[0]
        self._receipts += 1
        body = Receipt(
            ledger_id or self.greeting.ledger_id, upto, head_hash, credit, gaps, rejects
        )
        draft = Draft(
            frame_class=FrameClass.RECEIPT,
            type=FrameType.RECEIPT,
            payload=RECEIPT.build(body) if payload is None else payload,
            vehicle_id=self.inputs.vehicle_id.raw,
            key_id=signer.key_id,
            session_id=self.session_id,
            seq=self._receipts,
            mono_ms=0,
            wall_ms=self.inputs.now_ms(),
            msg_id=secrets.token_bytes(16),
            suite=signer.key.suite,
        ).with_(**changes)
        return self.made(draft, signer)

    async def ask_again(self, first: int, last: int, **changes: Any) -> None:  # noqa: ANN401 - fields of a draft
        """Send RESEND."""
        ledger_id = changes.pop("ledger_id", self.greeting.ledger_id)
        await self.send(self.sync(Resend(ledger_id, first, last), **changes))


CAR_SUITE: Final = Suite[Car]("car")
"""Every check of a car, in the order in which the modules are imported."""


def result_of(said: Said | None) -> Result | None:
    """Return the result that a frame carries."""
    return said.body if said is not None and isinstance(said.body, Result) else None


def shown(said: Said | None) -> str:
    """Return what came, for people."""
    return "nothing" if said is None else str(said.seen)
