"""Rogue cars as a process of their own; run by test_hostile_flood.

    python -m tests.bridge.rogue HOST PORT COUNT forged|signed VEHICLE_DIRECTORY...

Each sends COUNT entries of its ledger as fast as its broker takes them, with signatures
that do not hold or that do. Prints how many were sent and in how many seconds.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import Final

from protocol.codes import FrameClass
from protocol.fleet import VehiclePart
from protocol.identity import VehicleId
from protocol.keys import SIGNATURE_SIZE
from protocol.topic import topic_of
from tests.bridge.car import Car
from tests.bridge.site import boot_ms, clock
from tests.bridge.stream import BODIES
from transport.link import LinkSettings, MqttLink
from transport.tls import TlsIdentity, client_context

AT_ONCE: Final = 256
"""Publications that it has under way."""


def entries(directory: Path, count: int, *, is_signed: bool) -> list[bytes]:
    car = Car(directory, boot_ms=boot_ms)
    if is_signed:
        return [car.event(BODIES[0]) for _ in range(count)]
    unsigned = car.event(BODIES[0])[:-SIGNATURE_SIZE]
    return [unsigned + n.to_bytes(SIGNATURE_SIZE, "big") for n in range(count)]


async def flood(directory: Path, host: str, port: int, frames: list[bytes]) -> None:
    identity = TlsIdentity(
        directory / VehiclePart.TLS_CERTIFICATE,
        directory / VehiclePart.TLS_KEY,
        directory / VehiclePart.TRUST_ANCHORS,
    )
    topic = topic_of(VehicleId.from_text(directory.name), FrameClass.EVENT)
    waiting = iter(frames)
    settings = LinkSettings(host, port, client_id=directory.name, in_flight=AT_ONCE)
    async with MqttLink(settings, client_context(identity, now=clock())) as link:

        async def send() -> None:
            for frame in waiting:
                await link.publish(topic, frame)

        await asyncio.gather(*(send() for _ in range(AT_ONCE)))


async def main(host: str, port: int, count: int, kind: str, *names: str) -> None:
    made = {
        Path(name): entries(Path(name), count, is_signed=kind == "signed")
        for name in names
    }
    begun_s = time.monotonic()
    await asyncio.gather(*(flood(path, host, port, made[path]) for path in made))
    took_s = time.monotonic() - begun_s
    sys.stdout.write(f"{count * len(made)} {kind} in {took_s:.2f} s\n")


if __name__ == "__main__":
    at, port_text, count_text, kind_text, *directories = sys.argv[1:]
    asyncio.run(main(at, int(port_text), int(count_text), kind_text, *directories))
