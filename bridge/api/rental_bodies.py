"""Orders about a rental's payment, default, handover and grants, as callers send them.

They begin as those of `bridge.api.bodies` do.
"""

from datetime import datetime
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from bridge.api import forms
from bridge.api.body import (
    E7,
    Body,
    Cards,
    CardUid,
    FuelCardPin,
    HexId,
    Language,
    Latitude,
    Longitude,
    Pin,
    RentalBody,
    RentalId,
    Seconds,
    Version,
    require_pin,
    require_rental,
)
from bridge.bound_orders import (
    GrantOrder,
    HandoverOfferOrder,
    HandoverRequestOrder,
    MeetingPoint,
    Pins,
)
from bridge.orders import Order
from bridge.ports import RandomBytes
from protocol.codes import LockDefault
from protocol.command import ANY_VERSION
from protocol.rental_codes import GrantAction, PaymentOutcome, Rights
from protocol.rental_command import NAME_LIMIT, PaymentDecision, SetDefaultMode

GRANT_SPAN_S: Final = 30 * 86_400
"""Longest span of a grant: what a car without a network believes is bounded (I-18)."""

AMOUNT_LIMIT: Final = 0xFFFF_FFFF
"""Of a payment, in the smallest unit of its currency: 32 bits on the wire."""

DISTANCE_LIMIT_M: Final = 0xFFFF
"""Of who searches: 16 bits on the wire."""

Right = Literal["unlock", "drive", "service"]


class SetDefaultModeBody(RentalBody):
    """Change what locking means when the driver chose nothing."""

    kind: Literal["set_default_mode"]
    lock_default: Literal["park", "end"]

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return SetDefaultMode(
            self.rental, self.expected_version, LockDefault[self.lock_default.upper()]
        )


class PaymentDecisionBody(RentalBody):
    """Say how a payment ended that the car asked for."""

    kind: Literal["payment_decision"]
    payment_id: HexId
    decision: Literal["paid", "refused"]
    currency: Annotated[str, Field(pattern=forms.CURRENCY)]
    amount_minor: Annotated[int, Field(strict=True, ge=0, le=AMOUNT_LIMIT)]

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return PaymentDecision(
            rental_id=self.rental,
            expected_version=self.expected_version,
            payment_id=bytes.fromhex(self.payment_id),
            decision=PaymentOutcome[self.decision.upper()],
            currency=self.currency.encode("ascii"),
            amount_minor=self.amount_minor,
        )


class GrantBody(Body):
    """Give a card rights for a time, with no network needed, or take them."""

    kind: Literal["grant"]
    rental_id: RentalId
    expected_version: Version = ANY_VERSION
    action: Literal["add", "withdraw"] = "add"
    grant_id: HexId
    card: CardUid
    not_before: forms.Instant
    not_after: forms.Instant
    rights: Annotated[tuple[Right, ...], Field(min_length=1, max_length=len(Rights))]
    pin: Pin | None = Field(default=None, repr=False)
    fuel_card_pin: FuelCardPin | None = Field(default=None, repr=False)
    lock_default: Literal["park", "end"] = "end"
    language: Language = "en"

    @model_validator(mode="after")
    def _must_fit(self) -> Self:
        require_pin(self.pin, self.fuel_card_pin)
        require_rental(self.rental_id, "rental_id")
        # As the car gets them: less than a millisecond is no span there.
        begins_ms, ends_ms = _wall_ms(self.not_before), _wall_ms(self.not_after)
        if not 0 < ends_ms - begins_ms <= GRANT_SPAN_S * 1000 or begins_ms < 0:
            raise ValueError(
                "not_after must be after not_before, by 30 days at most, and both "
                "after 1970"
            )
        return self

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        rights = Rights(0)
        for name in self.rights:
            rights |= Rights[name.upper()]
        return GrantOrder(
            rental_id=bytes.fromhex(self.rental_id),
            expected_version=self.expected_version,
            action=GrantAction[self.action.upper()],
            grant_id=bytes.fromhex(self.grant_id),
            card=bytes.fromhex(self.card),
            not_before_ms=_wall_ms(self.not_before),
            not_after_ms=_wall_ms(self.not_after),
            rights=rights,
            lock_default=LockDefault[self.lock_default.upper()],
            language=self.language.encode("ascii"),
            pins=Pins(self.pin or "", self.fuel_card_pin or ""),
        )


class HandoverOfferBody(RentalBody):
    """Tell a car who takes it over next, and where they meet."""

    kind: Literal["handover_offer"]
    offer_id: HexId
    for_s: Seconds
    latitude_deg: Latitude
    longitude_deg: Longitude
    cards: Cards = ()
    pin: Pin | None = Field(default=None, repr=False)
    fuel_card_pin: FuelCardPin | None = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _must_fit(self) -> Self:
        require_pin(self.pin, self.fuel_card_pin)
        require_rental(self.offer_id, "offer_id")
        if self.offer_id == self.rental_id:
            raise ValueError("offer_id is the rental that begins, not the one that is")
        return self

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return HandoverOfferOrder(
            rental_id=self.rental,
            expected_version=self.expected_version,
            offer_id=bytes.fromhex(self.offer_id),
            for_s=self.for_s,
            meeting=_point(self.latitude_deg, self.longitude_deg),
            cards=tuple(bytes.fromhex(uid) for uid in self.cards),
            pins=Pins(self.pin or "", self.fuel_card_pin or ""),
        )


class HandoverRequestBody(RentalBody):
    """Ask the driver whether somebody near may take the car over."""

    kind: Literal["handover_request"]
    request_id: HexId
    for_s: Seconds
    latitude_deg: Latitude
    longitude_deg: Longitude
    distance_m: Annotated[int, Field(strict=True, ge=0, le=DISTANCE_LIMIT_M)]
    name: Annotated[str, Field(max_length=NAME_LIMIT, pattern=forms.PLAIN_TEXT)]

    @model_validator(mode="after")
    def _must_fit(self) -> Self:
        forms.require_utf8(self.name, NAME_LIMIT, "name")
        return self

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return HandoverRequestOrder(
            rental_id=self.rental,
            expected_version=self.expected_version,
            request_id=bytes.fromhex(self.request_id),
            for_s=self.for_s,
            meeting=_point(self.latitude_deg, self.longitude_deg),
            distance_m=self.distance_m,
            name=self.name,
        )


def _wall_ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


def _point(latitude_deg: float, longitude_deg: float) -> MeetingPoint:
    return MeetingPoint(round(latitude_deg * E7), round(longitude_deg * E7))
