"""Which configurations cars are offered with whose word (K28, adr/0022).

The attacker considered: somebody who owns the bridge and brings every car that is there
another business area or other rules. A car acts by a body only if its hash is the one
of an offer, so the offer (SYNC, CONFIG) is what is judged here; chunks carry bytes that
an offer let in, and need nobody.

Rule 1: what a car was offered last may be offered to it again, without a consent and
without being counted: it changes nothing, and a bridge does so whenever a link breaks.
Rule 2: a consent counts for one kind, hash and length, for each vehicle that it names,
for a day. Later the vehicle is one that nobody consented to.
Rule 3: the latest consent counts. One that was given before what the car was offered
last is over, used or not: neither replayed nor held back does it bring an old body.
Rule 4: without a consent, other bodies reach `vehicles` different cars in the window.
They are counted apart from orders, for they come when cars do: a morning's cars must
not keep an operator from opening one.

Pure: told what is offered and what time it is.
"""

from collections import OrderedDict
from typing import Final

from bridge.consent import ConfigurationStatement, ConsentError
from bridge.errors import CapError, SigningError
from bridge.signing.approvers import CLOCK_MS, Approvers
from bridge.signing.passed import Offered, Passed
from bridge.signing.settings import SecondPersonSettings
from protocol.identity import VehicleId
from protocol.sync import ConfigOffer

DAY_S: Final = 86_400
"""The longest wait that is told."""

OFFERED_LIMIT: Final = 200_000
"""Bodies that are remembered, of all cars and kinds: the oldest goes first, and is so
old by then that no consent from before it counts any more."""


class Offers:
    """What each car was offered last, and the cars that got it by nobody's word."""

    def __init__(self, settings: SecondPersonSettings, approvers: Approvers) -> None:
        self._settings = settings
        self._approvers = approvers
        self._offered: OrderedDict[tuple[bytes, int], Offered] = OrderedDict()
        self._alone: OrderedDict[bytes, int] = OrderedDict()

    def judge(
        self, vehicle_id: VehicleId, offer: ConfigOffer, consent: bytes, *, now: int
    ) -> Passed:
        """Say by what an offer passes; counts and notes nothing.

        Args:
            vehicle_id: who is offered it.
            offer: what.
            consent: what the bridge gave with it; empty for nothing.
            now: UTC ms.

        Raises:
            CapError: as many cars got one without a consent as may.
            SigningError: the consent is none for it.
        """
        last = self._offered.get((vehicle_id.raw, int(offer.kind)))
        if last is not None and last.sha256 == offer.sha256:
            return Passed(is_outside=False, offered=last)
        last_ms = 0 if last is None else last.decided_ms
        if consent:
            try:
                return self._consented(vehicle_id, offer, consent, last_ms, now)
            except ConsentError as error:
                raise SigningError(f"the second person's consent: {error}") from error
        self._require_few(vehicle_id.raw, now)
        # As early as a consent can be whose approver's clock is behind.
        decided_ms = max(last_ms, now - CLOCK_MS)
        return Passed(
            is_outside=True, offered=Offered(offer.kind, offer.sha256, decided_ms)
        )

    def note(self, vehicle_id: VehicleId, offered: Offered) -> None:
        """Remember an offer that is signed now, or that the log tells of."""
        name = (vehicle_id.raw, int(offered.kind))
        self._offered.pop(name, None)
        self._offered[name] = offered
        if len(self._offered) > OFFERED_LIMIT:
            self._offered.popitem(last=False)

    def count(self, vehicle_id: VehicleId, *, at_ms: int) -> None:
        """Count a car that got a body without a consent."""
        self._alone.pop(vehicle_id.raw, None)
        self._alone[vehicle_id.raw] = at_ms

    def _consented(
        self,
        vehicle_id: VehicleId,
        offer: ConfigOffer,
        consent: bytes,
        last_ms: int,
        now: int,
    ) -> Passed:
        proven = self._approvers.prove(consent, vehicle_id, now=now)
        statement = proven.statement
        if not isinstance(statement, ConfigurationStatement) or (
            statement.kind,
            statement.length,
            statement.sha256,
        ) != (int(offer.kind), offer.length, offer.sha256):
            raise ConsentError("it is for another configuration")
        if proven.decided_ms <= last_ms:
            raise ConsentError(
                "it was used for this vehicle, or is older than what the vehicle got"
            )
        return Passed(
            is_outside=False,
            approval_id=statement.approval_id,
            approver=proven.approver,
            offered=Offered(offer.kind, offer.sha256, proven.decided_ms),
        )

    def _require_few(self, vehicle: bytes, now: int) -> None:
        window_ms = self._settings.window_s * 1000
        while self._alone and next(iter(self._alone.values())) <= now - window_ms:
            self._alone.popitem(last=False)
        if len(self._alone) - (vehicle in self._alone) >= self._settings.vehicles:
            left_ms = next(iter(self._alone.values())) + window_ms - now
            raise CapError(
                f"{self._settings.vehicles} vehicles got configurations that no "
                f"approver signed within {self._settings.window_s} s; have one approve "
                "this one with their own key, or wait",
                # A clock that was set back makes it long.
                retry_after_s=min(max(-(-left_ms // 1000), 1), DAY_S),
            )
