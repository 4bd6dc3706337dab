"""What callers send: one model for each kind of order, strict and bounded."""

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bridge.api import forms
from bridge.orders import Order, ReserveOrder
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
    Ping,
    RotateKey,
    SetMode,
    Unlock,
)
from protocol.command_field import CARDS_LIMIT
from protocol.identity import ID_SIZE
from protocol.snapshot import NO_RENTAL

HOLD_LIMIT_S: Final = 86_400
"""A day. The usual reservation is free for 15 minutes (N1)."""

RentalId = Annotated[
    str,
    Field(
        pattern=forms.HEX_ID,
        description="16 bytes in lower-case hex, made by the fleet service.",
        examples=["00112233445566778899aabbccddeeff"],
    ),
]

CardUid = Annotated[
    str,
    Field(
        pattern=forms.CARD_UID,
        description="A card's UID of 4, 7 or 10 bytes (ISO/IEC 14443-3) in hex.",
    ),
]


Pin = Annotated[str, Field(pattern=forms.PIN)]
FuelCardPin = Annotated[str, Field(pattern=forms.FUEL_CARD_PIN)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class _RentalBody(_Body):
    rental_id: RentalId | None = Field(
        description="The rental that this belongs to; null for none, as an operator."
    )
    expected_version: Annotated[int, Field(strict=True, ge=0, le=ANY_VERSION)] = (
        ANY_VERSION
    )
    """State version that the caller saw; the default means that it does not mind."""

    @property
    def rental(self) -> bytes:
        """The rental's 16 bytes."""
        return NO_RENTAL if self.rental_id is None else bytes.fromhex(self.rental_id)


class ReserveBody(_Body):
    """Keep a car for one customer."""

    kind: Literal["reserve"]
    rental_id: RentalId
    expected_version: Annotated[int, Field(strict=True, ge=0, le=ANY_VERSION)] = (
        ANY_VERSION
    )
    hold_s: Annotated[int, Field(strict=True, ge=1, le=HOLD_LIMIT_S)]
    cards: Annotated[tuple[CardUid, ...], Field(max_length=CARDS_LIMIT)] = ()
    pin: Pin | None = Field(default=None, repr=False)
    fuel_card_pin: FuelCardPin | None = Field(default=None, repr=False)
    lock_default: Literal["park", "end"] = "end"
    language: Annotated[str, Field(pattern=forms.LANGUAGE)] = "en"

    @model_validator(mode="after")
    def _need_pin(self) -> Self:
        if self.fuel_card_pin and not self.pin:
            raise ValueError("fuel_card_pin needs a pin beside it")
        if self.rental_id == NO_RENTAL.hex():
            raise ValueError("rental_id of zeros means no rental")
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
            pin=self.pin or "",
            fuel_card_pin=self.fuel_card_pin or "",
        )


class CancelBody(_RentalBody):
    """Take a reservation back."""

    kind: Literal["cancel"]
    reason: Literal["customer", "operator"] = "customer"

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return CancelReservation(
            self.rental, self.expected_version, CancelReason[self.reason.upper()]
        )


class UnlockBody(_RentalBody):
    """Open the doors."""

    kind: Literal["unlock"]

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return Unlock(self.rental, self.expected_version)


class LockBody(_RentalBody):
    """Close the doors."""

    kind: Literal["lock"]
    mode: Literal["default", "park", "end", "plain"] = "default"

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return Lock(self.rental, self.expected_version, LockMode[self.mode.upper()])


class EngineReleaseBody(_RentalBody):
    """Let the engine start."""

    kind: Literal["engine_release"]
    reason: Literal["rental", "operator", "pin_block_lifted"] = "rental"

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return EngineRelease(
            self.rental, self.expected_version, HoldReason[self.reason.upper()]
        )


class EngineHoldBody(_RentalBody):
    """Keep the engine from starting."""

    kind: Literal["engine_hold"]
    reason: Literal["rental", "operator"] = "rental"

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return EngineHold(
            self.rental, self.expected_version, HoldReason[self.reason.upper()]
        )


class SetModeBody(_RentalBody):
    """Choose what the driver could choose at the display."""

    kind: Literal["set_mode"]
    mode: Literal["park", "resume", "refuel", "refuel_done", "end"]

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return SetMode(
            self.rental, self.expected_version, ModeRequest[self.mode.upper()]
        )


class FlashHazardsBody(_Body):
    """Blink."""

    kind: Literal["flash_hazards"]
    rental_id: RentalId | None = None
    seconds: Annotated[int, Field(strict=True, ge=1, le=HAZARDS_LIMIT_S)] = 5

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        rental = NO_RENTAL if self.rental_id is None else bytes.fromhex(self.rental_id)
        return FlashHazards(rental, ANY_VERSION, self.seconds)


class PingBody(_Body):
    """Ask for a signed sign of life."""

    kind: Literal["ping"]

    def to_order(self, random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return Ping(NO_RENTAL, ANY_VERSION, random_bytes(ID_SIZE))


class RotateKeyBody(_Body):
    """Have the car make itself a new signing key."""

    kind: Literal["rotate_key"]

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return RotateKey(NO_RENTAL, ANY_VERSION)


CommandBody = Annotated[
    ReserveBody
    | CancelBody
    | UnlockBody
    | LockBody
    | EngineReleaseBody
    | EngineHoldBody
    | SetModeBody
    | FlashHazardsBody
    | PingBody
    | RotateKeyBody,
    Field(discriminator="kind"),
]
"""An order, told apart by its kind."""
