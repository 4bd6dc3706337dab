"""Cars for the load generator: issued like any others, their frames signed beforehand.

Frames are built by the packed codec and signed by libsodium, so that a hundred thousand
of them are ready within seconds; the bridge judges them as it judges a real car's.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from certs.fleet import FleetDirectory
from certs.vehicle import BATCH_LIMIT, issue_vehicles, random_vehicle_id
from protocol.codes import ClockQuality, EventType, FrameClass, FrameType, Suite
from protocol.entry import GENESIS, LINK, EntryLink, entry_hash
from protocol.event import EngineStopped, build_event
from protocol.fleet import FleetPart, TlsPart
from protocol.frame import Header
from protocol.identity import VehicleId
from protocol.keys import SIGNATURE_SIZE, Ed25519SigningKey
from protocol.packed.frame import build_unsigned
from protocol.packed.telemetry import build_telemetry
from protocol.signing import to_be_signed
from protocol.telemetry import Telemetry
from protocol.topic import downlinks_of, topic_of
from tests.bridge.car import RENTAL, Car, sample
from tools.clock import wall_clock

NUMBER_AT: Final = slice(76, 92)
"""Where a frame's message id is: the benchmark numbers its frames there, from 1."""


def boot_ms() -> int:
    """Return this machine's boot clock, which every car here lives by."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


@dataclass(slots=True)
class BenchCar:
    """One car: where its TLS identity lies, and the frames it will send."""

    name: str
    """Its id as text: common name, client id, topic."""
    certificate: Path
    """PEM chain."""
    key: Path
    """PEM."""
    hello: bytes
    """Its first frame."""
    frames: list[tuple[str, bytes, int]] = field(default_factory=list)
    """Topic, frame and the frame's number, in the order of sending."""
    entries: int = 0
    """How many of them are ledger entries."""

    @property
    def downlinks(self) -> str:
        """What it subscribes to."""
        return downlinks_of(VehicleId.from_text(self.name))


def make_fleet(path: Path, count: int) -> FleetDirectory:
    """Make a fleet of so many cars, or open the one that an earlier run left there."""
    now = wall_clock()
    if not path.exists():
        FleetDirectory.create(path, name="bench", now=now)
    fleet = FleetDirectory.open(path)
    missing = count - len(_ids(fleet))
    while missing > 0:
        part = min(missing, BATCH_LIMIT)
        issue_vehicles(fleet, [random_vehicle_id() for _ in range(part)], now=now)
        missing -= part
    return fleet


def _ids(fleet: FleetDirectory) -> list[VehicleId]:
    names = (path.stem for path in (fleet.path / FleetPart.REGISTRY).iterdir())
    return [VehicleId.from_text(name) for name in sorted(names)]


def make_cars(
    fleet: FleetDirectory, count: int, *, frames: int, entry_each: int
) -> list[BenchCar]:
    """Prepare cars and `frames` frames in all, dealt to the cars in turn.

    Args:
        fleet: as `make_fleet` returned it.
        count: how many cars.
        frames: how many frames beside the HELLOs.
        entry_each: each car's every so-many-th frame is a ledger entry; 0 for none.
    """
    cars, writers = [], []
    for vehicle_id in _ids(fleet)[:count]:
        directory = fleet.vehicle_directory(vehicle_id)
        car = Car(directory, boot_ms=boot_ms)
        car.wall_ms = time.time_ns() // 1_000_000
        cars.append(
            BenchCar(
                str(vehicle_id),
                directory / TlsPart.CERTIFICATE,
                directory / TlsPart.KEY,
                car.hello(),
            )
        )
        writers.append(_Writer(car, entry_each, phase=len(cars)))
    for number in range(frames):
        place = number % count
        cars[place].frames.append(writers[place].next(number))
    for bench_car, writer in zip(cars, writers, strict=True):
        bench_car.entries = writer.entries
    return cars


class _Writer:
    """Signs one car's frames, one behind the other."""

    def __init__(self, car: Car, entry_each: int, *, phase: int) -> None:
        self.entries = 0
        self._car = car
        self._entry_each = entry_each
        self._count = phase
        self._batches = 0
        self._head = GENESIS
        if not isinstance(car.key, Ed25519SigningKey):
            raise TypeError("the benchmark's cars sign with Ed25519")
        seed = car.key.handle.private_bytes_raw()
        self._secret = crypto_sign_seed_keypair(seed)[1]
        self._key_id = car.key.key_id
        self._topics = {
            one: topic_of(car.id, one) for one in (FrameClass.EVENT, FrameClass.TELEM)
        }

    def next(self, number: int) -> tuple[str, bytes, int]:
        """Return the topic, the frame and its number."""
        self._count += 1
        if self._entry_each and self._count % self._entry_each == 0:
            return self._entry(number)
        self._batches += 1
        told = sample(speed_dkmh=self._count % 900, odometer_m=1_000_000 + self._count)
        return self._sign(
            FrameClass.TELEM,
            FrameType.TELEMETRY,
            build_telemetry(Telemetry((told,))),
            self._batches,
            number,
        )

    def _entry(self, number: int) -> tuple[str, bytes, int]:
        self.entries += 1
        link = EntryLink(self._car.ledger_id, self._head, ClockQuality.GNSS)
        body = build_event(EngineStopped(RENTAL, 1_000_000 + self._count, 60))
        made = self._sign(
            FrameClass.EVENT,
            EventType.ENGINE_STOPPED,
            LINK.build(link) + body,
            self.entries,
            number,
        )
        self._head = entry_hash(made[1])
        return made

    def _sign(
        self, frame_class: FrameClass, kind: int, payload: bytes, seq: int, number: int
    ) -> tuple[str, bytes, int]:
        header = Header(
            Suite.ED25519,
            frame_class,
            0,
            int(kind),
            1,
            0,
            self._car.id,
            self._key_id,
            self._car.session,
            seq,
            boot_ms(),
            self._car.wall_ms,
            (number + 1).to_bytes(16, "big"),
        )
        unsigned = build_unsigned(header, payload)
        message = to_be_signed(frame_class, self._car.fleet_id, unsigned)
        signature = crypto_sign(message, self._secret)[:SIGNATURE_SIZE]
        return self._topics[frame_class], unsigned + signature, number


def entries_of(cars: Sequence[BenchCar]) -> int:
    """Return how many ledger entries the cars will send."""
    return sum(car.entries for car in cars)
