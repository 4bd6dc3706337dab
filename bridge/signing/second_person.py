"""Whether a second person let a command go, asked in the signer's own process (K28).

The attacker considered: somebody who owns the bridge, its store and its callers' keys
and tokens, and wants a fleet stranded or opened. They can ask for anything and name
anybody. What they cannot do is sign with the key of an approver
(`bridge.signing.approvers`).

What needs a consent: a command that keeps a car from driving and names no rental, or an
operator's hold; and any command that names no rental, once `vehicles` different ones
got such within the window without a consent. A command that names a rental is of no
use for another car than that rental's: the car compares (`gateway.core.orders`), so a
rental's flow needs none, and the caps of the policy bound it. Configurations are
`bridge.signing.offers`.

Rule 1: a consent counts for its own bytes, its own vehicles, once for each, and for a
minute after it was given beside what it was deferred; the log remembers over restarts.
Rule 2: who asked does not consent, under no name of theirs.
Pure: told what was asked and what time it is.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from bridge.approvals import counts, immobilises
from bridge.compound import CompoundOrder, steps_of
from bridge.consent import ConsentError, Statement
from bridge.errors import SigningError
from bridge.signing.approvers import Approver, Approvers
from bridge.signing.offers import Offers
from bridge.signing.passed import Passed
from bridge.signing.settings import SecondPersonSettings
from protocol.codes import Opcode
from protocol.command import OPCODE_OF, Command, ShowMessage, build_command
from protocol.frame import Header
from protocol.identity import VehicleId
from protocol.snapshot import NO_RENTAL
from protocol.sync import ConfigOffer

KEPT_MS: Final = 2 * 86_400_000
"""How long used consents are remembered: longer than any counts."""


class SecondPerson:
    """Holds commands and offers against the consents that come with them."""

    def __init__(
        self,
        settings: SecondPersonSettings,
        approvers: Mapping[bytes, Approver],
        *,
        fleet_id: bytes,
    ) -> None:
        self._settings = settings
        self._approvers = Approvers(approvers, fleet_id=fleet_id)
        self._offers = Offers(settings, self._approvers)
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
                return self._consented(header, command, consent, now)
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

    def judge_offer(
        self, header: Header, offer: ConfigOffer, consent: bytes, *, now: int
    ) -> Passed:
        """Say by what an offer of a configuration passes; counts and notes nothing.

        Raises:
            CapError: it needs a second person, or waits.
            SigningError: the consent is none for it.
        """
        if not self._settings.required:
            return Passed(is_outside=False)
        return self._offers.judge(header.vehicle_id, offer, consent, now=now)

    def note(self, header: Header, passed: Passed, *, now: int) -> None:
        """Count a frame that is signed now."""
        self._note(header.vehicle_id, passed, at_ms=now, is_counted=True)
        if passed.approval_id and passed.offered is None:
            name = (passed.approval_id, header.vehicle_id.raw, header.type)
            self._use(name, msg_id=header.msg_id, at_ms=now)

    def remember(
        self,
        vehicle_id: VehicleId,
        passed: Passed,
        facts: Mapping[str, int | str],
        *,
        is_counted: bool,
    ) -> None:
        """Note what an entry of the log tells of; not counted if it is long ago."""
        at_ms = int(facts["at_ms"])
        self._note(vehicle_id, passed, at_ms=at_ms, is_counted=is_counted)
        if passed.approval_id and passed.offered is None:
            opcode = int(Opcode[str(facts["kind"]).upper()])
            name = (passed.approval_id, vehicle_id.raw, opcode)
            self._use(name, msg_id=bytes.fromhex(str(facts["msg_id"])), at_ms=at_ms)

    def _note(
        self, vehicle_id: VehicleId, passed: Passed, *, at_ms: int, is_counted: bool
    ) -> None:
        is_alone = is_counted and passed.is_outside
        if passed.offered is not None:
            self._offers.note(vehicle_id, passed.offered)
            if is_alone:
                self._offers.count(vehicle_id, at_ms=at_ms)
        elif is_alone:
            self._outside.pop(vehicle_id.raw, None)
            self._outside[vehicle_id.raw] = at_ms

    def _use(
        self, name: tuple[bytes, bytes, int], *, msg_id: bytes, at_ms: int
    ) -> None:
        while self._used and next(iter(self._used.values()))[1] < at_ms - KEPT_MS:
            self._used.popitem(last=False)
        self._used.setdefault(name, (msg_id, at_ms))

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
        self, header: Header, command: Command, consent: bytes, now: int
    ) -> Passed:
        proven = self._approvers.prove(consent, header.vehicle_id, now=now)
        statement = proven.statement
        if not isinstance(statement, Statement) or (
            header.type,
            build_command(command),
        ) not in _allowed(statement):
            raise ConsentError("it is for another order")
        name = (statement.approval_id, header.vehicle_id.raw, header.type)
        used = self._used.get(name)
        if used is not None and used[0] != header.msg_id:
            raise ConsentError("it was used for this vehicle")
        return Passed(
            is_outside=False,
            approval_id=statement.approval_id,
            approver=proven.approver,
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
