"""Orders about a car itself, as callers send them: service, restarts, words to read.

They begin as those of `bridge.api.bodies` do.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from bridge.api import forms
from bridge.api.body import Body, CarBody, Seconds
from bridge.bound_orders import ServiceOrder
from bridge.orders import Order
from bridge.ports import RandomBytes
from protocol.command import (
    ANY_VERSION,
    ARGUMENT_LIMIT,
    ARGUMENTS_LIMIT,
    Explain,
    Reboot,
    RequestSnapshot,
    Restart,
    RotateKey,
    ShowMessage,
)
from protocol.diagnosis import ExplainSubject
from protocol.identity import ID_SIZE
from protocol.rental_codes import Component, ServiceRequest
from protocol.snapshot import NO_RENTAL

SHIFT_S: Final = 8 * 3_600
"""Service without `for_s` lasts a shift, as by card (assumed)."""

Argument = Annotated[str, Field(max_length=ARGUMENT_LIMIT, pattern=forms.PLAIN_TEXT)]


class ServiceBody(Body):
    """Take a car out of the fleet's use for service, or give it back."""

    kind: Literal["service"]
    request: Literal["on", "off"]
    for_s: Seconds = SHIFT_S

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return ServiceOrder(
            rental_id=NO_RENTAL,
            expected_version=ANY_VERSION,
            request=ServiceRequest[self.request.upper()],
            for_s=self.for_s,
        )


class ShowMessageBody(CarBody):
    """Show the driver one of the texts that the car has."""

    kind: Literal["show_message"]
    text_key: Annotated[int, Field(strict=True, ge=0, le=0xFFFF)]
    arguments: Annotated[tuple[Argument, ...], Field(max_length=ARGUMENTS_LIMIT)] = ()
    seconds: Annotated[int, Field(strict=True, ge=1, le=0xFF)] = 10

    @model_validator(mode="after")
    def _must_fit(self) -> Self:
        for argument in self.arguments:
            forms.require_utf8(argument, ARGUMENT_LIMIT, "arguments")
        return self

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return ShowMessage(
            self.rental, ANY_VERSION, self.text_key, self.arguments, self.seconds
        )


class RestartBody(Body):
    """Start one part of the gateway anew."""

    kind: Literal["restart"]
    component: Literal["reader", "board", "uplink", "agent"]

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return Restart(NO_RENTAL, ANY_VERSION, Component[self.component.upper()])


class RebootBody(Body):
    """Start the car's computer anew; a car that drives refuses."""

    kind: Literal["reboot"]

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return Reboot(NO_RENTAL, ANY_VERSION)


class SnapshotBody(Body):
    """Ask for the state of now, signed; moves nothing."""

    kind: Literal["snapshot"]

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return RequestSnapshot(NO_RENTAL, ANY_VERSION)


class ExplainBody(Body):
    """Ask why the car did what it did last; moves nothing."""

    kind: Literal["explain"]
    subject: Literal["tap", "command", "lock", "light"]
    about: Annotated[str, Field(pattern=forms.HEX_ID)] | None = None

    @model_validator(mode="after")
    def _names_commands_only(self) -> Self:
        if self.about is not None and self.subject != "command":
            raise ValueError("about names a command: its subject is 'command'")
        return self

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        about = bytes(ID_SIZE) if self.about is None else bytes.fromhex(self.about)
        subject = ExplainSubject[self.subject.upper()]
        return Explain(NO_RENTAL, ANY_VERSION, subject, about)


class RotateKeyBody(Body):
    """Have the car make itself a new signing key."""

    kind: Literal["rotate_key"]

    def to_order(self, _random_bytes: RandomBytes) -> Order:
        """Return the order."""
        return RotateKey(NO_RENTAL, ANY_VERSION)
