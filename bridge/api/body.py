"""What the bodies of all orders have in common: strict, bounded, repeating nothing."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from bridge.api import forms
from protocol.command import ANY_VERSION
from protocol.command_field import CARDS_LIMIT
from protocol.snapshot import NO_RENTAL

DAY_S: Final = 86_400
"""The longest reservation, offer or service by one order. The usual reservation is free
for 15 minutes (N1)."""

E7: Final = 10_000_000
"""Units of a degree in the protocol."""

RentalId = Annotated[
    str,
    Field(
        pattern=forms.HEX_ID,
        description="16 bytes in lower-case hex, made by the fleet service.",
        examples=["00112233445566778899aabbccddeeff"],
    ),
]

HexId = Annotated[
    str, Field(pattern=forms.HEX_ID, description="16 bytes in lower-case hex.")
]

CardUid = Annotated[
    str,
    Field(
        pattern=forms.CARD_UID,
        description="A card's UID of 4, 7 or 10 bytes (ISO/IEC 14443-3) in hex.",
    ),
]

Cards = Annotated[tuple[CardUid, ...], Field(max_length=CARDS_LIMIT)]
Pin = Annotated[str, Field(pattern=forms.PIN)]
FuelCardPin = Annotated[str, Field(pattern=forms.FUEL_CARD_PIN)]
Language = Annotated[str, Field(pattern=forms.LANGUAGE)]
Version = Annotated[
    int,
    Field(
        strict=True,
        ge=0,
        # The number behind it means on the wire that any will do: who saw it in a
        # car, or counted up to it, would order whatever the car's state.
        le=ANY_VERSION - 1,
        description="The vehicle's state version that the caller saw.",
        json_schema_extra=lambda schema: schema.pop("default", None),
    ),
]
"""Left out, the caller does not mind."""
Seconds = Annotated[
    int, Field(strict=True, ge=1, le=DAY_S, description="Seconds from now.")
]
Latitude = Annotated[float, Field(strict=True, ge=-90, le=90, allow_inf_nan=False)]
Longitude = Annotated[float, Field(strict=True, ge=-180, le=180, allow_inf_nan=False)]


class Body(BaseModel):
    """Unknown fields are refused, and no message repeats a value."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class RentalBody(Body):
    """An order that belongs to a rental."""

    rental_id: RentalId | None = Field(
        description="The rental that this belongs to; null for none, as an operator."
    )
    expected_version: Version = ANY_VERSION
    """State version that the caller saw; the default means that it does not mind."""

    @property
    def rental(self) -> bytes:
        """The rental's 16 bytes."""
        return NO_RENTAL if self.rental_id is None else bytes.fromhex(self.rental_id)


class CarBody(Body):
    """An order that concerns the car, whoever has it."""

    rental_id: RentalId | None = None

    @property
    def rental(self) -> bytes:
        """The rental's 16 bytes."""
        return NO_RENTAL if self.rental_id is None else bytes.fromhex(self.rental_id)


def require_rental(rental_id: str, name: str) -> None:
    """Refuse zeros where a rental or an offer is named.

    Raises:
        ValueError: it is zeros.
    """
    if rental_id == NO_RENTAL.hex():
        raise ValueError(f"{name} of zeros means no rental")


def require_pin(pin: str | None, fuel_card_pin: str | None) -> None:
    """Refuse a fuel card's PIN alone: it is sealed beside the driver's.

    Raises:
        ValueError: it is.
    """
    if fuel_card_pin and not pin:
        raise ValueError("fuel_card_pin needs a pin beside it")
