"""What the fleet has promised; cars keep to it: once, in time, in the right car.

Grants, handovers, payments, service, configurations and compound orders. What was
promised is noted where it is ordered; what a car did is read from its signed entries.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bridge.commands import CommandRecord
from gateway.core.actions import AllowEngine, DriveLocks
from gateway.core.events import AgentStarted
from gateway.core.state import State
from gateway.runtime.room import PROMISED_PARTS, RESERVED_KIB
from gateway.runtime.step import Step
from protocol.codes import AccessMeans, Code, ConfigKind, RentalMode
from protocol.command import Explain, Ping, RequestSnapshot
from protocol.event import AccessGranted, RefuelStarted, RentalStarted
from protocol.identity import card_digest
from protocol.rental_codes import GrantAction, PaymentOutcome
from protocol.rental_command import Grant, HandoverOffer, PaymentDecision
from protocol.rental_event import HandoverDone, PaymentDecided, PaymentRequested
from protocol.snapshot import NO_RENTAL
from protocol.vehicle_event import ConfigurationActivated
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.oracle import Watched

TRUST_MS: Final = 5_000
"""How far a car's trusted time may be from the truth: a frame's way at its slowest."""

FULL_S: Final = 3.0
"""From when a disk is full to when every step that was begun before has ended."""

DONE: Final = frozenset({Code.OK, Code.ALREADY_IN_STATE})
"""What a car signs of a command whose wish is fulfilled."""

LOOKING: Final = (RequestSnapshot, Explain, Ping)
"""Commands that move nothing."""


@dataclass(frozen=True, slots=True)
class PromisedGrant:
    """A right that a card got for a time."""

    client: str
    grant_id: bytes
    begins_ms: int
    """UTC ms."""
    ends_ms: int
    """UTC ms."""


@dataclass
class Kept:
    """What one car has shown of its promises."""

    withdrawn: set[bytes] = field(default_factory=set)
    """Grants that it was told to forget."""
    used: dict[bytes, int] = field(default_factory=dict)
    """How many rentals each grant began."""
    offers: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    """Until when by its boot clock, and how many deaths there had been."""
    decisions: dict[bytes, set[PaymentOutcome]] = field(default_factory=dict)
    """What it was told of each payment."""
    decided: dict[bytes, set[PaymentOutcome]] = field(default_factory=dict)
    """What it wrote of each payment."""
    asked: set[bytes] = field(default_factory=set)
    is_visit_asked: bool = False
    """Whether the fleet was asked to pay in the visit to a station under way."""
    versions: dict[ConfigKind, int] = field(default_factory=dict)
    full_since_s: float | None = None


@dataclass
class Promises:
    """Of all cars."""

    true_ms: Callable[[], int]
    """The world's time, UTC ms."""
    cards: dict[bytes, bytes] = field(default_factory=dict)
    """The card that was named for a rental; noted before it is ordered."""
    grants: dict[bytes, PromisedGrant] = field(default_factory=dict)
    """By the rental that each may begin."""
    offers: dict[bytes, tuple[str, bytes]] = field(default_factory=dict)
    """By the rental that begins: which car, and the rental that ends."""
    bodies: dict[tuple[str, ConfigKind], set[bytes]] = field(default_factory=dict)
    """Hashes of what was wanted of each car."""
    second_of: dict[bytes, bytes] = field(default_factory=dict)
    """Of each second part of a compound order the first."""
    is_time_told_wrong: bool = False
    """Whether the fleet's own clock has ever been wrong: cars believe it."""

    def want(self, client: str, kind: ConfigKind, body: bytes) -> None:
        """Note a body before it is wanted."""
        self.bodies.setdefault((client, kind), set()).add(hashlib.sha256(body).digest())

    def note(self, record: CommandRecord) -> None:
        """Note the parts of a compound order."""
        if len(record.parts) > 1:
            first, second = record.parts[0], record.parts[1]
            self.second_of[second.command_id] = first.command_id

    # -- a step of a car -----------------------------------------------------------

    def judge(
        self,
        watched: "Watched",
        client: str,
        before: State,
        step: Step,
        bodies: Iterable[object],
        *,
        now_s: float,
    ) -> None:
        """Judge one committed step.

        Raises:
            Violation: a promise is broken.
        """
        kept, name = watched.kept, watched.car.name
        self._judge_looking(name, step)
        self._judge_room(watched, before, step, now_s=now_s)
        for body in bodies:
            match body:
                case AccessGranted():
                    self._judge_access(watched, client, before, body)
                case HandoverDone():
                    self._judge_handover(watched, client, body, step)
                case RefuelStarted():
                    kept.is_visit_asked = False
                case PaymentRequested():
                    self._judge_request(watched, body)
                case PaymentDecided():
                    self._judge_payment(watched, body)
                case RentalStarted():
                    self._judge_start(watched, client, body)
                case ConfigurationActivated():
                    self._judge_configuration(watched, client, body)
                case _:
                    pass

    def taken(self, watched: "Watched", step: Step) -> None:
        """Note a command that a car carries out; before its entries are judged."""
        accepted = step.decision.accepted
        if accepted is None:
            return
        kept, command = watched.kept, accepted.command
        first = self.second_of.get(accepted.msg_id)
        if first is not None:
            result = watched.told.results.get(first)
            if result is None or result.code not in DONE:
                raise Violation(
                    f"I-11: {watched.car.name} got the second part before the first "
                    "was done"
                )
        match command:
            case Grant():
                if command.action is GrantAction.WITHDRAW:
                    kept.withdrawn.add(command.grant_id)
                else:
                    kept.withdrawn.discard(command.grant_id)
            case HandoverOffer():
                kept.offers[command.offer_id] = (command.until_ms, watched.deaths)
            case PaymentDecision():
                told = kept.decisions.setdefault(command.payment_id, set())
                told.add(command.decision)
            case _:
                pass

    def _judge_looking(self, name: str, step: Step) -> None:
        accepted = step.decision.accepted
        if accepted is None or not isinstance(accepted.command, LOOKING):
            return
        moved = [
            action
            for action in step.decision.actions
            if isinstance(action, DriveLocks | AllowEngine)
        ]
        if moved:
            raise Violation(f"I-33: {name} was asked and moved: {moved[0]}")

    def _judge_room(
        self, watched: "Watched", before: State, step: Step, *, now_s: float
    ) -> None:
        """I-20: what is full begins no rental, be it by order, grant or handover.

        That a rental under way is the same with room and without says
        `tests.gateway.core.invariants` at each step.
        """
        since_s, left_kib = watched.kept.full_since_s, watched.car.disk_left_kib
        if since_s is None or left_kib is None or now_s - since_s < FULL_S:
            return
        if isinstance(step.event, AgentStarted):
            return  # it goes on from what was begun before it crashed
        name, after = watched.car.name, step.decision.state
        if after.rental_id not in {None, before.rental_id}:
            raise Violation(
                f"I-20: {name} began with {type(step.event).__name__} what may need "
                f"{RESERVED_KIB} KiB, and {left_kib} are left"
            )
        opens = DriveLocks(locked=False) in step.decision.actions
        is_promised = before.mode is RentalMode.RESERVED
        if is_promised and opens and left_kib < RESERVED_KIB // PROMISED_PARTS:
            raise Violation(f"I-20: {name} was opened and {left_kib} KiB are left")

    def _judge_access(
        self,
        watched: "Watched",
        client: str,
        before: State,
        body: AccessGranted,
    ) -> None:
        name, grant = watched.car.name, self._grant_of(body)
        if body.means is not AccessMeans.CARD or grant is None:
            return
        holder = before.reservation
        if holder is not None and holder.rental_id == body.rental_id:
            return  # the card opened before, and the bolts are still to be read back
        if before.rental_id is not None:
            return
        if grant.client != client:
            raise Violation(f"I-7: {name} opened by a grant for another car")
        if grant.grant_id in watched.kept.withdrawn:
            raise Violation(f"I-12: {name} opened by a grant that was withdrawn")
        if self.is_time_told_wrong:
            return
        now_ms = self.true_ms()
        if not grant.begins_ms - TRUST_MS <= now_ms < grant.ends_ms + TRUST_MS:
            raise Violation(
                f"I-12: {name} opened by a grant {now_ms - grant.begins_ms} ms after "
                f"its begin, which ends {grant.ends_ms - grant.begins_ms} ms after it"
            )

    def _grant_of(self, body: AccessGranted) -> PromisedGrant | None:
        """Return the grant by which a card opened; a technician's has no rental."""
        if body.rental_id != NO_RENTAL:
            return self.grants.get(body.rental_id)
        for rental_id, grant in self.grants.items():
            if card_digest(rental_id, self.cards[rental_id]) == body.authority:
                return grant
        return None

    def is_named(self, body: AccessGranted) -> bool:
        """Return whether the fleet named the card that opened, for what it opened."""
        if body.rental_id == NO_RENTAL:
            return self._grant_of(body) is not None
        uid = self.cards.get(body.rental_id)
        return uid is not None and body.authority == card_digest(body.rental_id, uid)

    def _judge_start(
        self, watched: "Watched", client: str, body: RentalStarted
    ) -> None:
        kept, name = watched.kept, watched.car.name
        if body.rental_id not in self.cards:
            raise Violation(f"I-12: {name} began a rental that nobody ordered")
        if body.rental_id in self.grants:
            kept.used[body.rental_id] = kept.used.get(body.rental_id, 0) + 1
            if self.grants[body.rental_id].client != client:
                raise Violation(f"I-7: {name} began a rental by another car's grant")
            if kept.used[body.rental_id] > 1:
                raise Violation(f"H14: a grant began two rentals of {name}")

    def _judge_handover(
        self, watched: "Watched", client: str, body: HandoverDone, step: Step
    ) -> None:
        name, kept = watched.car.name, watched.kept
        promised = self.offers.get(body.new_rental_id)
        if promised is None:
            raise Violation(f"H11: {name} was handed over to nobody the fleet knows")
        if promised != (client, body.rental_id):
            raise Violation(f"I-7: {name} was handed over by another rental's offer")
        offered = kept.offers.pop(body.new_rental_id, None)
        if offered is None:
            raise Violation(f"H11: {name} was handed over twice by one offer")
        until_ms, deaths = offered
        # Every instant that has come counts before what happens at it: no grace.
        if deaths == watched.deaths and step.now.boot_ms >= until_ms:
            raise Violation(f"H11: {name} was handed over after the offer's end")

    def _judge_request(self, watched: "Watched", body: PaymentRequested) -> None:
        name, kept = watched.car.name, watched.kept
        if body.payment_id in kept.asked:
            raise Violation(f"H3: {name} asked for one payment twice")
        if kept.is_visit_asked:
            # The first may have been made, whatever was heard of it.
            raise Violation(f"H3: {name} may be paid for twice in one visit")
        kept.asked.add(body.payment_id)
        kept.is_visit_asked = True

    def _judge_payment(self, watched: "Watched", body: PaymentDecided) -> None:
        name, kept = watched.car.name, watched.kept
        earlier = kept.decided.setdefault(body.payment_id, set())
        # A refusal may be followed by a permission, which stands.
        if body.decision in earlier or PaymentOutcome.PAID in earlier:
            raise Violation(f"H3: {name} decided a payment twice")
        earlier.add(body.decision)
        if body.payment_id not in kept.asked:
            raise Violation(f"H3: {name} decided a payment that it never asked for")
        if body.decision not in kept.decisions.get(body.payment_id, set()):
            raise Violation(f"C21: {name} took a payment for {body.decision.name}")

    def _judge_configuration(
        self, watched: "Watched", client: str, body: ConfigurationActivated
    ) -> None:
        name, kept = watched.car.name, watched.kept
        if body.version <= kept.versions.get(body.kind, 0):
            raise Violation(
                f"I-8: {name} took {body.kind.name} {body.version} and had "
                f"{kept.versions[body.kind]}"
            )
        kept.versions[body.kind] = body.version
        if body.hash not in self.bodies.get((client, body.kind), set()):
            raise Violation(f"I-7: {name} acts by a {body.kind.name} of another car")

    # -- the end -------------------------------------------------------------------

    def judge_compound(
        self, watched: "Watched", record: CommandRecord, *, needless: bool
    ) -> None:
        """I-11: a compound is called what its parts were, by the car's signed word.

        Raises:
            Violation: it is called something else.
        """
        results = watched.told.results
        first, second = (results.get(part.command_id) for part in record.parts)
        is_first_done = first is not None and first.code in DONE
        is_second_done = second is not None and second.code in DONE
        if record.state == "succeeded" and not (
            is_first_done and (is_second_done or needless)
        ):
            raise Violation(f"I-11: {record.kind} is called done, and is not")
        if record.state == "partial" and (not is_first_done or is_second_done):
            raise Violation(f"I-11: {record.kind} is called half done, and is not")
