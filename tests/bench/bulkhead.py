"""What a consumer that hangs costs commands and the other sinks: at most a fifth.

One rig, one run: short phases with a webhook that answers alternate with phases in
which it takes connections and never answers, so that what else the machine does falls
on both. Each phase orders lock and unlock, whose events go to the webhook and to a
file; measured are the command, from the API call to the car's signed result, and the
file, from the API call to the line of the result's event. How sure the ratio is is told
by drawing phases anew (bootstrap): an interval that holds 1 means that this run saw no
difference.
"""

import asyncio
import secrets
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web

from tests.bench.figure import Figure
from tests.bench.phases import Phases, interval, is_bad, p99
from tools.rig import Rig, open_rig

PHASES: Final = 28
"""Half of them with a webhook that hangs."""

PHASE_S: Final = 2.0
"""How long each is measured: 56 s together."""

SLOWER_MOST_PCT: Final = 20
"""Issue 5."""


class Consumer:
    """A webhook that answers, or holds every request."""

    def __init__(self) -> None:
        self.is_hanging = False
        self.held = 0
        self._released = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        """Answer now, or when the consumer is well again."""
        await request.read()
        if self.is_hanging:
            self.held += 1
            await self._released.wait()
        return web.Response(status=204)

    def hang(self, *, is_hanging: bool) -> None:
        """Begin or cease to hang."""
        self.is_hanging = is_hanging
        if is_hanging:
            self._released = asyncio.Event()
        else:
            self._released.set()


async def measure() -> AsyncIterator[Figure]:
    """Yield the figures of this file."""
    consumer = Consumer()
    application = web.Application()
    application.router.add_post("/", consumer.take)
    runner = web.AppRunner(application, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    secret = "whsec_" + secrets.token_urlsafe(24).replace("-", "A").replace("_", "B")
    commands: Phases = {False: [], True: []}
    lines: Phases = {False: [], True: []}
    try:
        with tempfile.TemporaryDirectory() as directory:
            url = f"http://127.0.0.1:{port}/"
            path = Path(directory) / "rig"
            async with open_rig(path, webhook=(url, secret)) as rig:
                await _phase(rig, [], [], is_first=True)
                for number in range(PHASES):
                    is_hanging = is_bad(number)
                    consumer.hang(is_hanging=is_hanging)
                    commands[is_hanging].append([])
                    lines[is_hanging].append([])
                    await _phase(rig, commands[is_hanging][-1], lines[is_hanging][-1])
                consumer.hang(is_hanging=False)
    finally:
        await runner.cleanup()
    for name, found in (("command", commands), ("line in another sink", lines)):
        well, ill = (p99(found[is_ill]) for is_ill in (False, True))
        counts = [sum(map(len, found[is_ill])) for is_ill in (False, True)]
        low, high = interval(found)
        note = (
            f"95 of 100 draws: {low:.2f} to {high:.2f}; at most "
            f"{1 + SLOWER_MOST_PCT / 100}; {consumer.held} requests were held"
        )
        many = (f"{count} orders" for count in counts)
        yield Figure(f"{name}, p99, the webhook answers", well, "ms", 0.0, next(many))
        yield Figure(f"{name}, p99, the webhook hangs", ill, "ms", 0.0, next(many))
        yield Figure(f"{name}: hangs / answers", ill / well, "x", 0.0, note)


async def _phase(
    rig: Rig, commands: list[float], lines: list[float], *, is_first: bool = False
) -> None:
    car = rig.cars[0]
    url = f"{rig.bridge.api_url}/v1/vehicles/{car.vehicle_id}/commands?wait_s=10"
    headers = {"X-Api-Key": rig.api_key}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def order(kind: str, **options: object) -> float:
            body = {"kind": kind, "rental_id": RENTAL, **options}
            begin = time.perf_counter()
            async with session.post(url, json=body) as answer:
                document = await answer.json()
            if document.get("state") != "succeeded":
                raise RuntimeError(f"{kind} did not succeed: {document}")
            return (time.perf_counter() - begin) * 1e3

        if is_first:
            await _online(session, rig)
            await order("reserve", hold_s=3_600)
            await order("unlock")
            return
        until_s = time.perf_counter() + PHASE_S
        while time.perf_counter() < until_s:
            for kind, options in (("lock", {"mode": "plain"}), ("unlock", {})):
                size = rig.events_file.stat().st_size
                begin = time.perf_counter()
                commands.append(await order(kind, **options))
                while rig.events_file.stat().st_size == size:
                    await asyncio.sleep(0.001)
                    if time.perf_counter() - begin > 10:
                        raise RuntimeError("no event reached the other sink")
                lines.append((time.perf_counter() - begin) * 1e3)


async def _online(session: aiohttp.ClientSession, rig: Rig) -> None:
    url = f"{rig.bridge.api_url}/v1/vehicles/{rig.cars[0].vehicle_id}"
    async with asyncio.timeout(30):
        while True:
            async with session.get(url) as answer:
                document = await answer.json()
            if document.get("online"):
                return
            await asyncio.sleep(0.05)


RENTAL: Final = secrets.token_hex(16)
