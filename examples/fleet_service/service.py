"""A fleet service in miniature: it reserves cars, hears how rentals go, and bills them.

It knows of freefloat what docs/ says about the bridge's HTTP API and webhook, and
imports nothing of it. Two rules carry it:

* the answer to a command is believed only when its state is final; anything else is
  "unknown", and the rental's events will tell;
* a webhook counts only with a good signature, once for each ``webhook-id``, and only
  from the car that was reserved for that rental.
"""

import asyncio
import json
import secrets
from collections.abc import Callable, Mapping
from typing import Final, Self

import aiohttp
from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from examples.fleet_service.book import Book, Reservation
from examples.fleet_service.pricing import Invoice, Report, ReportError

HOOK_PATH: Final = "/hooks/freefloat"
RENTAL_ENDED: Final = "freefloat.rental.ended"
BODY_LIMIT: Final = 65_536
"""Bytes of a webhook; an event with its frame has about 3,000."""

PATIENCE_S: Final = 15
"""How long to wait for a car's signed answer to a reservation."""

EventListener = Callable[[str, Mapping[str, object], bool], None]
"""Called with type, event and whether it is new, after it was taken."""


class ReservationError(Exception):
    """The car was not reserved, or nobody knows; `document` is the bridge's answer."""

    def __init__(self, message: str, document: Mapping[str, object]) -> None:
        super().__init__(message)
        self.document = document


class FleetService:
    """The service; enter it to serve.

    Args:
        bridge_url: of the bridge's API.
        api_key: one that the bridge knows.
        webhook_secret: ``whsec_...``, shared with the bridge.
        book: what is kept.
        listener: told of every event; for a terminal or a test.
    """

    def __init__(
        self,
        *,
        bridge_url: str,
        api_key: str,
        webhook_secret: str,
        book: Book,
        listener: EventListener | None = None,
    ) -> None:
        self._bridge_url = bridge_url
        self._api_key = api_key
        self._webhook = Webhook(webhook_secret)
        self._book = book
        self._listener = listener
        self._invoiced: dict[str, asyncio.Event] = {}
        self._client: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self.url = ""
        """Where it serves, once it does."""

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Serve, and return the URL of the webhook; port 0 lets the system choose."""
        app = web.Application(client_max_size=BODY_LIMIT)
        app.add_routes(
            [
                web.post(HOOK_PATH, self._take),
                web.post("/reservations", self._post_reservation),
                web.get("/invoices/{rental_id}", self._get_invoice),
            ]
        )
        self._client = aiohttp.ClientSession(
            headers={"X-Api-Key": self._api_key},
            timeout=aiohttp.ClientTimeout(total=PATIENCE_S + 10),
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        real_host, real_port = self._runner.addresses[0][:2]
        self.url = f"http://{real_host}:{real_port}"
        return self.url + HOOK_PATH

    async def stop(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._client is not None:
            await self._client.close()

    async def __aenter__(self) -> Self:
        """Serve at a free port of loopback."""
        await self.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Stop serving."""
        await self.stop()

    def connect(self, bridge_url: str) -> None:
        """Name the bridge; for who starts the service first and the bridge then."""
        self._bridge_url = bridge_url

    async def reserve(
        self,
        customer: str,
        vehicle_id: str,
        *,
        cards: list[str],
        pin: str,
        fuel_card_pin: str | None = None,
        hold_s: int = 900,
        lock_default: str = "end",
        language: str = "en",
    ) -> dict[str, object]:
        """Reserve a car and return the bridge's command, signed outcome included.

        Raises:
            ReservationError: refused, or unknown: then reserve again with nothing lost.
        """
        rental_id = secrets.token_hex(16)
        self._book.reserve(Reservation(rental_id, vehicle_id, customer))
        status, answer = await self.order(
            vehicle_id,
            {
                "kind": "reserve",
                "rental_id": rental_id,
                "hold_s": hold_s,
                "cards": cards,
                "pin": pin,
                "fuel_card_pin": fuel_card_pin,
                "lock_default": lock_default,
                "language": language,
            },
            # The same key if this call is ever repeated: one rental, one command.
            idempotency_key=rental_id,
        )
        if answer.get("state") != "succeeded":
            said = answer.get("meaning") or answer.get("detail") or status
            raise ReservationError(f"not reserved: {said}", answer)
        return answer

    async def order(
        self,
        vehicle_id: str,
        order: Mapping[str, object],
        *,
        idempotency_key: str | None = None,
        wait_s: float = PATIENCE_S,
    ) -> tuple[int, dict[str, object]]:
        """Give the bridge an order and return its status and its answer."""
        if self._client is None:
            raise RuntimeError("start the service first")
        headers = (
            {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        )
        async with self._client.post(
            f"{self._bridge_url}/v1/vehicles/{vehicle_id}/commands",
            params={"wait_s": str(wait_s)},
            json=dict(order),
            headers=headers,
        ) as response:
            answer: dict[str, object] = await response.json(content_type=None)
            return response.status, answer

    def invoice(self, rental_id: str) -> dict[str, object] | None:
        """Return a rental's invoice, or None while it runs."""
        return self._book.invoice(rental_id)

    async def wait_invoice(self, rental_id: str) -> dict[str, object]:
        """Wait for a rental's invoice; bound it with `asyncio.timeout`."""
        event = self._invoiced.setdefault(rental_id, asyncio.Event())
        while (document := self._book.invoice(rental_id)) is None:
            await event.wait()
        return document

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            self._webhook.verify(body, dict(request.headers), json_parse=False)
        except (WebhookVerificationError, ValueError):
            # ValueError: a signature that is no base64, or a body that is no UTF-8.
            return web.json_response({"error": "signature does not hold"}, status=401)
        event_id = request.headers["webhook-id"]
        event = json.loads(body)
        is_new = self._apply(event_id, event)
        if self._listener is not None:
            self._listener(str(event.get("type")), event, is_new)
        return web.json_response({"taken": True, "new": is_new})

    def _apply(self, event_id: str, event: Mapping[str, object]) -> bool:
        """Apply an event; return whether it is new. Raises for nothing it can keep."""
        data = event.get("data")
        if event.get("type") != RENTAL_ENDED or not isinstance(data, dict):
            return self._book.note(event_id)
        rental_id = str(data.get("rental_id"))
        reservation = self._book.reservation(rental_id)
        if reservation is None or reservation.vehicle_id != event.get("subject"):
            # Not reserved here, or told by another car: nothing to bill.
            return self._book.note(event_id)
        try:
            report = Report.from_data(data)
        except ReportError:
            return self._book.note(event_id)
        invoice: Invoice | None = self._book.charge(event_id, reservation, report)
        if invoice is not None:
            self._invoiced.setdefault(rental_id, asyncio.Event()).set()
        return invoice is not None

    async def _post_reservation(self, request: web.Request) -> web.Response:
        try:
            wanted = await request.json()
            answer = await self.reserve(
                str(wanted["customer"]),
                str(wanted["vehicle_id"]),
                cards=[str(uid) for uid in wanted.get("cards", [])],
                pin=str(wanted["pin"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return web.json_response(
                {"error": "customer, vehicle_id, cards and pin are needed"}, status=422
            )
        except ReservationError as error:
            document = {"error": str(error), "bridge": dict(error.document)}
            return web.json_response(document, status=409)
        return web.json_response(answer, status=201)

    async def _get_invoice(self, request: web.Request) -> web.Response:
        document = self._book.invoice(request.match_info["rental_id"])
        if document is None:
            return web.json_response({"error": "no invoice yet"}, status=404)
        return web.json_response(document)
