"""A rogue car as a process of its own; run by test_forged_flood.

    python -m tests.bridge.rogue VEHICLE_DIRECTORY HOST PORT COUNT

Sends COUNT frames that it did not sign, on its own topic, as fast as its broker takes
them, and prints how many it sent and in how many seconds.
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


async def flood(directory: Path, host: str, port: int, count: int) -> float:
    identity = TlsIdentity(
        directory / VehiclePart.TLS_CERTIFICATE,
        directory / VehiclePart.TLS_KEY,
        directory / VehiclePart.TRUST_ANCHORS,
    )
    car = Car(directory, boot_ms=boot_ms)
    genuine = car.event(BODIES[0])
    topic = car.topic(FrameClass.EVENT)
    numbers = iter(range(count))
    settings = LinkSettings(host, port, client_id=directory.name, in_flight=AT_ONCE)
    async with MqttLink(settings, client_context(identity, now=clock())) as link:
        begun_s = time.monotonic()

        async def send() -> None:
            for number in numbers:
                signature = number.to_bytes(SIGNATURE_SIZE, "big")
                await link.publish(topic, genuine[:-SIGNATURE_SIZE] + signature)

        await asyncio.gather(*(send() for _ in range(AT_ONCE)))
        return time.monotonic() - begun_s


if __name__ == "__main__":
    name, host, port, count = sys.argv[1:]
    took_s = asyncio.run(flood(Path(name), host, int(port), int(count)))
    sys.stdout.write(f"{count} {took_s:.2f}\n")
