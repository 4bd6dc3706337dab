"""A rogue car as a process of its own; run by test_hostile_flood.

    python -m tests.bridge.rogue VEHICLE_DIRECTORY HOST PORT COUNT forged|signed

Sends COUNT entries of its ledger as fast as its broker takes them, with signatures that
do not hold or that do, and prints how many it sent and in how many seconds.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import Final

from protocol.codes import FrameClass
from protocol.fleet import VehiclePart
from protocol.keys import SIGNATURE_SIZE
from tests.bridge.car import Car
from tests.bridge.site import boot_ms, clock
from tests.bridge.stream import BODIES
from transport.link import LinkSettings, MqttLink
from transport.tls import TlsIdentity, client_context

AT_ONCE: Final = 256
"""Publications that it has under way."""


async def flood(
    directory: Path, host: str, port: int, count: int, *, is_signed: bool
) -> float:
    identity = TlsIdentity(
        directory / VehiclePart.TLS_CERTIFICATE,
        directory / VehiclePart.TLS_KEY,
        directory / VehiclePart.TRUST_ANCHORS,
    )
    car = Car(directory, boot_ms=boot_ms)
    topic = car.topic(FrameClass.EVENT)
    if is_signed:
        frames = [car.event(BODIES[0]) for _ in range(count)]
    else:
        unsigned = car.event(BODIES[0])[:-SIGNATURE_SIZE]
        frames = [unsigned + n.to_bytes(SIGNATURE_SIZE, "big") for n in range(count)]
    waiting = iter(frames)
    settings = LinkSettings(host, port, client_id=directory.name, in_flight=AT_ONCE)
    async with MqttLink(settings, client_context(identity, now=clock())) as link:
        begun_s = time.monotonic()

        async def send() -> None:
            for frame in waiting:
                await link.publish(topic, frame)

        await asyncio.gather(*(send() for _ in range(AT_ONCE)))
        return time.monotonic() - begun_s


if __name__ == "__main__":
    name, host, port, count, kind = sys.argv[1:]
    took_s = asyncio.run(
        flood(Path(name), host, int(port), int(count), is_signed=kind == "signed")
    )
    sys.stdout.write(f"{count} {kind} in {took_s:.2f} s\n")
