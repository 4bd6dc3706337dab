"""What callers send: one model for each kind of order, strict and bounded."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bridge.api.body import (
    Body,
    CarBody,
    Cards,
    FuelCardPin,
    Language,
    Pin,
    RentalBody,
    RentalId,
    Seconds,
    Version,
    require_pin,
    require_rental,
)
from bridge.api.rental_bodies import (
    GrantBody,
    HandoverOfferBody,
    HandoverRequestBody,
    PaymentDecisionBody,
    SetDefaultModeBody,
)
from bridge.api.upkeep_bodies import (
    ExplainBody,
    RebootBody,
    RestartBody,
    RotateKeyBody,
    ServiceBody,
    ShowMessageBody,
    SnapshotBody,
)
from bridge.bound_orders import Pins, ReserveOrder
from bridge.orders import Order
from bridge.ports import RandomBytes
from protocol.codes import (
    CancelReason,
    HoldReason,
    LockDefault,
    LockMode,
    ModeRequest,
)
from protocol.command import (
    ANY_VERSION,
    HAZARDS_LIMIT_S,
    CancelReservation,
    EngineHold,
    EngineRelease,
    FlashHazards,
    Lock,
    LockAndDisable,
    Ping,
    SetMode,
    Unlock,
    UnlockAndEnable,
)
from protocol.identity import ID_SIZE
from protocol.snapshot import NO_RENTAL


class ReserveBody(Body):
    """Keep a car for one customer."""

    kind: Literal["reserve"]
    rental_id: RentalId
    expected_version: Version = ANY_VERSION
    hold_s: Seconds
    cards: Cards = ()
    pin: Pin | None = Field(default=None, repr=False)
    fuel_card_pin: FuelCardPin | None = Field(default=None, repr=False)
    lock_default: Literal["park", "end"] = "end"
    language: Language = "en"

    @model_validator(mode="after")
    def _need_pin(self) -> Self:
        require_pin(self.pin, self.fuel_card_pin)
        require_rental(self.rental_id, "rental_id")
        return self

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return ReserveOrder(
            rental_id=bytes.fromhex(self.rental_id),
            expected_version=self.expected_version,
            hold_s=self.hold_s,
            cards=tuple(bytes.fromhex(uid) for uid in self.cards),
            lock_default=LockDefault[self.lock_default.upper()],
            language=self.language.encode("ascii"),
            pins=Pins(self.pin or "", self.fuel_card_pin or ""),
        )


class CancelBody(RentalBody):
    """Take a reservation back."""

    kind: Literal["cancel"]
    reason: Literal["customer", "operator"] = "customer"

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return CancelReservation(
            self.rental, self.expected_version, CancelReason[self.reason.upper()]
        )


class UnlockBody(RentalBody):
    """Open the doors."""

    kind: Literal["unlock"]

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return Unlock(self.rental, self.expected_version)


class LockBody(RentalBody):
    """Close the doors."""

    kind: Literal["lock"]
    mode: Literal["default", "park", "end", "plain"] = "default"

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return Lock(self.rental, self.expected_version, LockMode[self.mode.upper()])


class UnlockAndEnableBody(RentalBody):
    """Open the doors, then let the engine start without a PIN."""

    kind: Literal["unlock_and_enable"]

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return UnlockAndEnable(self.rental, self.expected_version)


class LockAndDisableBody(RentalBody):
    """Close the doors, then keep the engine from starting."""

    kind: Literal["lock_and_disable"]
    mode: Literal["default", "park", "end", "plain"] = "default"

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return LockAndDisable(
            self.rental, self.expected_version, LockMode[self.mode.upper()]
        )


class EngineReleaseBody(RentalBody):
    """Let the engine start."""

    kind: Literal["engine_release"]
    reason: Literal["rental", "operator", "pin_block_lifted"] = "rental"

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return EngineRelease(
            self.rental, self.expected_version, HoldReason[self.reason.upper()]
        )


class EngineHoldBody(RentalBody):
    """Keep the engine from starting."""

    kind: Literal["engine_hold"]
    reason: Literal["rental", "operator"] = "rental"

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return EngineHold(
            self.rental, self.expected_version, HoldReason[self.reason.upper()]
        )


class SetModeBody(RentalBody):
    """Choose what the driver could choose at the display."""

    kind: Literal["set_mode"]
    mode: Literal["park", "resume", "refuel", "refuel_done", "end"]

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return SetMode(
            self.rental, self.expected_version, ModeRequest[self.mode.upper()]
        )


class FlashHazardsBody(CarBody):
    """Blink."""

    kind: Literal["flash_hazards"]
    seconds: Annotated[int, Field(strict=True, ge=1, le=HAZARDS_LIMIT_S)] = 5

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return FlashHazards(self.rental, ANY_VERSION, self.seconds)


class PingBody(Body):
    """Ask for a signed sign of life."""

    kind: Literal["ping"]

    def to_order(self, random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return Ping(NO_RENTAL, ANY_VERSION, random_bytes(ID_SIZE))


CommandBody = Annotated[
    ReserveBody
    | CancelBody
    | UnlockBody
    | LockBody
    | EngineReleaseBody
    | EngineHoldBody
    | UnlockAndEnableBody
    | LockAndDisableBody
    | SetModeBody
    | SetDefaultModeBody
    | PaymentDecisionBody
    | HandoverOfferBody
    | HandoverRequestBody
    | GrantBody
    | ServiceBody
    | FlashHazardsBody
    | ShowMessageBody
    | PingBody
    | SnapshotBody
    | ExplainBody
    | RestartBody
    | RebootBody
    | RotateKeyBody,
    Field(discriminator="kind"),
]
"""An order, told apart by its kind."""
