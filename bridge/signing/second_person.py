"""Whether a second person let a command go, asked in the signer's own process (K28).

The attacker considered: somebody who owns the bridge, its store and its callers' keys
and tokens, and wants a fleet stranded or opened. They can ask for anything and name
anybody. What they cannot do is sign with the key of an approver, which is on that
person's machine or token and which no bridge ever sees.

What needs a consent: a command that keeps a car from driving and names no rental, or an
operator's hold; and any command that names no rental, once `vehicles` different ones
got such within the window without a consent. A command that names a rental is of no
use for another car than that rental's: the car compares (`gateway.core.orders`), so a
rental's flow needs none, and the caps of the policy bound it.

Rule 1: a consent counts for its own bytes, its own vehicles, once for each, and for a
minute after it was given beside what it was deferred; the log remembers over restarts.
Rule 2: who asked does not consent, under no name of theirs.
Pure: told what was asked and what time it is.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bridge.approvals import counts, immobilises
from bridge.compound import CompoundOrder, steps_of
from bridge.consent import Consent, ConsentError, Statement, parse_consent
from bridge.errors import SigningError
from bridge.signing.settings import ApproverSettings, SecondPersonSettings
from protocol.command import OPCODE_OF, Command, ShowMessage, build_command
from protocol.frame import Header
from protocol.identity import VehicleId
from protocol.keys import VerifyKey
from protocol.snapshot import NO_RENTAL

CLOCK_MS: Final = 60_000
"""How far an approver's clock may be ahead of the signer's."""

KEPT_MS: Final = 2 * 86_400_000
"""How long used consents are remembered: longer than any counts."""


@dataclass(frozen=True, slots=True)
class Approver:
    """A person who may consent."""

    name: str
    """For the log."""
    callers: frozenset[str]
    """All names under which they may have asked the bridge."""
    key: VerifyKey
    """Proves their word."""


@dataclass(frozen=True, slots=True)
class Passed:
    """What a command passed by."""

    is_outside: bool
    """Whether it is outside a rental's flow and nobody consented: it is counted."""
    approval_id: bytes = b""
    """The approval that was consented to; empty for none."""
    approver: str = ""
    """Who consented; empty for nobody."""


def approvers_of(settings: Sequence[ApproverSettings]) -> dict[bytes, Approver]:
    """Return the approvers by the id of their key; the settings were checked."""
    found = {}
    for one in settings:
        key = VerifyKey.load(bytes.fromhex(one.public_key))
        names = frozenset((one.name, *one.callers))
        found[key.key_id] = Approver(one.name, names, key)
    return found


class SecondPerson:
    """Holds commands against the consents that come with them."""

    def __init__(
        self,
        settings: SecondPersonSettings,
        approvers: Mapping[bytes, Approver],
        *,
        fleet_id: bytes,
    ) -> None:
        self._settings = settings
        self._approvers = approvers
        self._fleet_id = fleet_id
        self._outside: OrderedDict[bytes, int] = OrderedDict()
        self._used: OrderedDict[tuple[bytes, bytes, int], tuple[bytes, int]] = (
            OrderedDict()
        )

    def judge(
        self, header: Header, command: Command, consent: bytes, *, now: int
    ) -> Passed:
        """Say by what a command passes; counts and notes nothing.

        Args:
            header: of its frame.
            command: what it orders.
            consent: what the bridge gave with it; empty for nothing.
            now: UTC ms.

        Raises:
            SigningError: it needs a second person, or the consent is none for it.
        """
        if not self._settings.required:
            return Passed(is_outside=False)
        if consent:
            try:
                return self._consented(header, command, parse_consent(consent), now)
            except ConsentError as error:
                raise SigningError(f"the second person's consent: {error}") from error
        is_outside = (
            command.rental_id == NO_RENTAL
            and counts(command)
            and not isinstance(command, ShowMessage)
        )
        if immobilises(command):
            raise SigningError(
                "it keeps a car from driving outside a rental, and no approver signed "
                "it; have one approve it with their own key"
            )
        if is_outside:
            self._require_few(header.vehicle_id.raw, now)
        return Passed(is_outside)

    def note(self, header: Header, passed: Passed, *, now: int) -> None:
        """Count a command that is signed now, or that the log tells of."""
        name = header.vehicle_id.raw
        if passed.is_outside:
            self.count(name, at_ms=now)
        if passed.approval_id:
            self.use(
                passed.approval_id, name, header.type, msg_id=header.msg_id, at_ms=now
            )

    def count(self, vehicle: bytes, *, at_ms: int) -> None:
        """Count a car that was reached outside a rental without a consent."""
        self._outside.pop(vehicle, None)
        self._outside[vehicle] = at_ms

    def use(
        self,
        approval_id: bytes,
        vehicle: bytes,
        opcode: int,
        *,
        msg_id: bytes,
        at_ms: int,
    ) -> None:
        """Remember that a consent was used."""
        while self._used and next(iter(self._used.values()))[1] < at_ms - KEPT_MS:
            self._used.popitem(last=False)
        self._used.setdefault((approval_id, vehicle, opcode), (msg_id, at_ms))

    def _require_few(self, vehicle: bytes, now: int) -> None:
        since_ms = now - self._settings.window_s * 1000
        while self._outside and next(iter(self._outside.values())) <= since_ms:
            self._outside.popitem(last=False)
        if len(self._outside) - (vehicle in self._outside) >= self._settings.vehicles:
            raise SigningError(
                f"{self._settings.vehicles} vehicles got orders outside rentals within "
                f"{self._settings.window_s} s, and no approver signed this one; have "
                "one approve it with their own key"
            )

    def _consented(
        self, header: Header, command: Command, consent: Consent, now: int
    ) -> Passed:
        approver = self._approvers.get(consent.key_id)
        if approver is None:
            raise ConsentError(f"the signer knows no approver {consent.key_id.hex()}")
        consent.require_of(approver.key)
        statement = consent.stated()
        if statement.fleet_id != self._fleet_id:
            raise ConsentError("it is for another fleet")
        if statement.asked_by in approver.callers:
            raise ConsentError(f"{approver.name} asked for it; a second person must")
        if not self._is_now(consent, statement, now):
            raise ConsentError("it does not count now: too old, too late, or a clock")
        if header.vehicle_id.raw not in statement.vehicle_ids:
            raise ConsentError(f"it does not name {header.vehicle_id}")
        if (header.type, build_command(command)) not in _allowed(statement):
            raise ConsentError("it is for another order")
        name = (statement.approval_id, header.vehicle_id.raw, header.type)
        used = self._used.get(name)
        if used is not None and used[0] != header.msg_id:
            raise ConsentError("it was used for this vehicle")
        return Passed(
            is_outside=False,
            approval_id=statement.approval_id,
            approver=approver.name,
        )

    @staticmethod
    def _is_now(consent: Consent, statement: Statement, now: int) -> bool:
        return consent.decided_ms <= min(
            now + CLOCK_MS, statement.expires_ms
        ) and now <= consent.until_ms(statement)


def passed_of(facts: Mapping[str, int | str]) -> tuple[VehicleId, Passed] | None:
    """Return what an entry of the signer's log says of a command; None if nothing."""
    if facts["class"] != "cmd":
        return None
    return VehicleId.from_text(str(facts["vehicle"])), Passed(
        is_outside=facts.get("outside") == 1,
        approval_id=bytes.fromhex(str(facts.get("approval", ""))),
        approver=str(facts.get("approver", "")),
    )


def _allowed(statement: Statement) -> set[tuple[int, bytes]]:
    """Return what may be signed by a statement: the order, or a compound's parts."""
    command = statement.command()
    whole = {(statement.opcode, build_command(command))}
    if isinstance(command, CompoundOrder):
        parts = steps_of(command)
        return whole | {
            (int(OPCODE_OF[type(part)]), build_command(part)) for part in parts
        }
    return whole
