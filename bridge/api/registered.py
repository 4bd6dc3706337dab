"""A vehicle of the fleet, out of a request's path."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Path

from bridge.api.problems import ProblemError
from bridge.registry import RegistryDirectory
from protocol.errors import DecodeError
from protocol.identity import VehicleId

VehicleText = Annotated[str, Path(pattern=r"^[A-Z2-7]{25}[AEIMQUY4]$")]


class Registered:
    """Says which vehicle a text names."""

    def __init__(self, registry: RegistryDirectory) -> None:
        self._registry = registry

    def __call__(self, text: str, *, field: str = "") -> VehicleId:
        """Return the vehicle; `field` is where in a body it was named.

        Raises:
            ProblemError: none of this fleet.
        """
        try:
            vehicle = VehicleId.from_text(text)
        except DecodeError as error:
            # The path's pattern let it through; say no all the same.
            raise _unknown(error.detail, field) from error
        if self._registry.current.get(vehicle) is None:
            raise _unknown("no vehicle of this fleet has this id", field)
        return vehicle


def _unknown(why: str, field: str) -> ProblemError:
    return ProblemError(
        HTTPStatus.NOT_FOUND,
        "unknown-vehicle",
        f"{field}: {why}" if field else why,
        errors=[{"field": field, "in": "body", "problem": why}] if field else (),
    )
