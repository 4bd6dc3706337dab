"""Who may let go what somebody else wants, and whether they did (K28, adr/0022).

The attacker considered: somebody who owns the bridge, its store and its callers' keys
and tokens. What they cannot do is sign with the key of an approver, which is on that
person's machine or token and which no bridge ever sees.

Here is what holds for every consent, to an order or to a configuration: whose signature
it is, that it is not of who asked, for which fleet and vehicle, and that it counts now.
What may be done by it, and that it is done once, its users say. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bridge.consent import Consent, ConsentError, Stated, parse_consent
from bridge.signing.settings import ApproverSettings
from protocol.identity import VehicleId
from protocol.keys import VerifyKey

CLOCK_MS: Final = 60_000
"""How far an approver's clock may be ahead of the signer's."""


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
class Proven:
    """A consent that holds."""

    approver: str
    """Who gave it."""
    statement: Stated
    """To what."""
    decided_ms: int
    """When, by the clock of who gave it; UTC ms."""


def approvers_of(settings: Sequence[ApproverSettings]) -> dict[bytes, Approver]:
    """Return the approvers by the id of their key; the settings were checked."""
    found = {}
    for one in settings:
        key = VerifyKey.load(bytes.fromhex(one.public_key))
        names = frozenset((one.name, *one.callers))
        found[key.key_id] = Approver(one.name, names, key)
    return found


class Approvers:
    """The people whose consent counts in one fleet."""

    def __init__(self, approvers: Mapping[bytes, Approver], *, fleet_id: bytes) -> None:
        self._approvers = approvers
        self._fleet_id = fleet_id

    def prove(self, consent: bytes, vehicle_id: VehicleId, *, now: int) -> Proven:
        """Return what somebody consented to; whether it was used is not looked at.

        Args:
            consent: what the bridge gave.
            vehicle_id: whom it must name.
            now: UTC ms.

        Raises:
            ConsentError: it proves nothing for this vehicle now.
        """
        found = parse_consent(consent)
        approver = self._approvers.get(found.key_id)
        if approver is None:
            raise ConsentError(f"the signer knows no approver {found.key_id.hex()}")
        found.require_of(approver.key)
        statement = found.stated()
        if statement.fleet_id != self._fleet_id:
            raise ConsentError("it is for another fleet")
        if statement.asked_by in approver.callers:
            raise ConsentError(f"{approver.name} asked for it; a second person must")
        if not _is_now(found, statement, now):
            raise ConsentError("it does not count now: too old, too late, or a clock")
        if vehicle_id.raw not in statement.vehicle_ids:
            raise ConsentError(f"it does not name {vehicle_id}")
        return Proven(approver.name, statement, found.decided_ms)


def _is_now(consent: Consent, statement: Stated, now: int) -> bool:
    return consent.decided_ms <= min(
        now + CLOCK_MS, statement.expires_ms
    ) and now <= consent.until_ms(statement)
