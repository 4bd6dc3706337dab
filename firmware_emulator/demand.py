"""Customers' side of the fleet: reserving a car through the bridge's public HTTP API.

What a fleet service's backend would do, reduced to what emulated customers need. Only
the standard library is used, in a thread for each call; fifty cars make one call every
few seconds.
"""

import asyncio
import http.client
import json
import secrets
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from firmware_emulator.errors import DemandError, UnansweredError, UnknownError
from firmware_emulator.reader import Card
from protocol.codes import LockDefault
from protocol.identity import ID_SIZE, VehicleId

WAIT_S: Final = 15
"""How long the bridge may wait for a car's signed answer."""

HOLD_S: Final = 900
"""A reservation is free for 15 minutes (N1)."""

REPEATS: Final = 2
"""More commands for one reservation; a car that changes its session so often is ill."""

SETTLED_S: Final = 30.0
"""From something a car did to the bridge knowing of it, at the longest."""

_LOOK_S: Final = 0.5
"""Between two looks."""

_ANSWER_LIMIT: Final = 1_000_000
"""Bytes of an answer."""

_PATIENCE_S: Final = WAIT_S + 10.0


@dataclass(frozen=True, slots=True)
class Bridge:
    """Where the API is."""

    url: str
    """``http://HOST:PORT``."""
    opening: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The headers that open it; empty for a bridge without keys."""

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise DemandError(
                f"{self.url!r} is no address of an API",
                "it begins with http:// or https:// and names a host and a port",
            )

    async def reserve(
        self,
        vehicle_id: VehicleId,
        card: Card,
        pin: str,
        *,
        fuel_card_pin: str = "",
        lock_default: LockDefault = LockDefault.END,
    ) -> bytes:
        """Reserve a car and return the rental's id when the car has signed for it.

        Raises:
            DemandError: the bridge or the car said no, or nobody answered.
        """
        rental_id = secrets.token_bytes(ID_SIZE)
        order = {
            "kind": "reserve",
            "rental_id": rental_id.hex(),
            "hold_s": HOLD_S,
            "cards": [card.uid.hex()],
            "pin": pin,
            "fuel_card_pin": fuel_card_pin or None,
            "lock_default": lock_default.name.lower(),
        }
        path = f"/v1/vehicles/{vehicle_id}/commands?wait_s={WAIT_S}"
        command = await self.call("POST", path, order)
        for _ in range(REPEATS):
            # Signed for a session that was just over: the car's own word that it did
            # nothing is what allows another command (protocol-design.md 2).
            if command.get("state") != "expired":
                break
            command = await self.call("POST", path, order)
        if command.get("state") != "succeeded":
            raise DemandError(
                f"{vehicle_id.short} was not reserved: {command.get('state')}, "
                f"{command.get('code') or command.get('meaning')}"
            )
        return rental_id

    async def session_of(self, vehicle_id: VehicleId) -> str | None:
        """Return the session in which the bridge last heard a car.

        Raises:
            DemandError: the bridge refuses or is not there.
        """
        known = await self.call("GET", f"/v1/vehicles/{vehicle_id}")
        session = known.get("session")
        return str(session["id"]) if session and known.get("online") else None

    async def rental(self, rental_id: bytes) -> dict[str, Any] | None:
        """Return what the bridge knows of a rental, None if nothing."""
        try:
            return await self.call("GET", f"/v1/rentals/{rental_id.hex()}")
        except UnknownError:
            return None

    async def wait_online(
        self,
        vehicle_id: VehicleId,
        *,
        after: str | None = None,
        timeout_s: float = SETTLED_S,
    ) -> None:
        """Return when the bridge has heard the car's hello.

        Args:
            vehicle_id: whose.
            after: a session that is over, which the bridge may not know yet.
            timeout_s: how long to wait.

        Raises:
            DemandError: it has not, in that time.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        while await self.session_of(vehicle_id) in {None, after}:
            await _pause(deadline, f"{vehicle_id.short} is not online at the bridge")

    async def wait_report(
        self, rental_id: bytes, *, timeout_s: float = SETTLED_S
    ) -> dict[str, Any]:
        """Return a rental's document as soon as it has the signed report.

        Raises:
            DemandError: it has none, in that time.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            known = await self.rental(rental_id)
            if known is not None and known.get("report"):
                return known
            await _pause(deadline, "the bridge has no report of the rental")

    async def call(
        self, method: str, path: str, document: dict[str, object] | None = None
    ) -> dict[str, Any]:
        """Call the API and return its answer.

        Raises:
            UnknownError: it has no such thing.
            DemandError: it refuses.
            UnansweredError: it is not there.
        """
        return await asyncio.to_thread(self._call, method, path, document)

    def _call(
        self, method: str, path: str, document: dict[str, object] | None
    ) -> dict[str, Any]:
        parts = urllib.parse.urlsplit(self.url)
        kind = (
            http.client.HTTPSConnection
            if parts.scheme == "https"
            else http.client.HTTPConnection
        )
        connection = kind(parts.hostname or "", parts.port, timeout=_PATIENCE_S)
        headers = {"Accept": "application/json", **self.opening}
        body = None
        if document is not None:
            body = json.dumps(document)
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, parts.path.rstrip("/") + path, body, headers)
            response = connection.getresponse()
            status, data = response.status, response.read(_ANSWER_LIMIT)
        except (OSError, http.client.HTTPException) as error:
            raise UnansweredError(
                f"the API at {self.url} does not answer: {error}"
            ) from None
        finally:
            connection.close()
        return _answer(status, data)


async def _pause(deadline: float, missing: str) -> None:
    if asyncio.get_running_loop().time() >= deadline:
        raise DemandError(f"waited in vain: {missing}")
    await asyncio.sleep(_LOOK_S)


def _answer(status: int, data: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise DemandError(f"the API answered {status} with something that is no JSON")
    if status == HTTPStatus.NOT_FOUND:
        raise UnknownError(str(answer.get("detail", "the API knows no such thing")))
    if status >= HTTPStatus.BAD_REQUEST:
        raise DemandError(f"the API answered {status}: {answer.get('detail', '')}")
    return answer
