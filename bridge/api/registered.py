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

    def __call__(self, text: str) -> VehicleId:
        """Return the vehicle.

        Raises:
            ProblemError: none of this fleet.
        """
        try:
            vehicle = VehicleId.from_text(text)
        except DecodeError as error:
            # The path's pattern let it through; say no all the same.
            raise ProblemError(
                HTTPStatus.NOT_FOUND, "unknown-vehicle", error.detail
            ) from error
        if self._registry.current.get(vehicle) is None:
            raise ProblemError(
                HTTPStatus.NOT_FOUND,
                "unknown-vehicle",
                "no vehicle of this fleet has this id",
            )
        return vehicle
