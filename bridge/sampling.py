"""What frames of telemetry change of a car: pure, so it can be done later, or again.

Most of what a fleet says is telemetry, and most samples are replaced by the next one
before anybody asks. So the frames of a car may wait (`bridge.kept_vehicles`) and be
folded into its state together, which costs less than one after another and leaves the
same.

A car's written state may be older than the frames of its telemetry that are stored;
folding those into it once more makes up for it, and changes nothing of what it knows:
every field keeps the newest stamp.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple, Self

import msgspec

from bridge.clock import ClockEstimate
from bridge.instant import Instant
from bridge.twin import Latest, Stamp, is_replaced, spread
from bridge.vehicle import VehicleState
from protocol.frame import Header
from protocol.identity import boot_counter
from protocol.telemetry import Sample, Telemetry

SAMPLE_UNIT_MS: Final = 100
"""A sample's age is given in tenths of a second."""


class Told(msgspec.Struct, frozen=True, gc=False):
    """What a frame of telemetry told, and when it came."""

    session_id: bytes
    """16 bytes."""
    mono_ms: int
    """What the car's boot clock showed."""
    wall_ms: int
    """How the car labelled it, UTC ms."""
    samples: tuple[Sample, ...]
    """Oldest first; none of a frame that is newer than this bridge."""
    at: Instant
    """When it was received."""

    @classmethod
    def by(cls, header: Header, telemetry: Telemetry | None, *, at: Instant) -> Self:
        """Return what a verified frame told."""
        samples = () if telemetry is None else telemetry.samples
        return cls(header.session_id, header.mono_ms, header.wall_ms, samples, at)


class _Newest(NamedTuple):
    """A sample that may be the newest, and what says when it was measured."""

    sample: Sample
    stamp: tuple[int, int]
    """(boot counter, ms of the car's boot clock)."""
    told: Told
    clock: ClockEstimate
    """As its frame left it."""

    def latest(self) -> Latest:
        boot, told = self.stamp[0], self.told
        signed_ms = self.clock.utc_of(boot, told.mono_ms, at=told.at)
        if signed_ms is None:
            signed_ms = told.wall_ms
        observed_ms = signed_ms - self.sample.age_ds * SAMPLE_UNIT_MS
        return Latest(self.sample, Stamp(*self.stamp), observed_ms, told.at.utc_ms)


def sampled(
    vehicle: VehicleState, header: Header, telemetry: Telemetry | None, *, at: Instant
) -> VehicleState:
    """Return a vehicle that was heard of by one frame of telemetry.

    Args:
        vehicle: as it was before.
        header: of the frame.
        telemetry: what it says; None when it is newer than this bridge.
        at: when the frame was received.
    """
    return folded(vehicle, (Told.by(header, telemetry, at=at),))


def folded(vehicle: VehicleState, told: Iterable[Told]) -> VehicleState:
    """Return a vehicle after frames of telemetry, as one after another leave it.

    Args:
        vehicle: as it was before them.
        told: in the order of their arrival; none changes nothing.
    """
    clock, fields, latest = vehicle.clock, vehicle.fields, vehicle.latest
    newest: _Newest | None = None
    last: Told | None = None
    for last in told:
        boot = boot_counter(last.session_id)
        if last.session_id == vehicle.session_id:
            # A frame of another session says nothing about today's clock.
            clock = clock.observed(boot, last.mono_ms, at=last.at)
        for sample in last.samples:
            age_ms = sample.age_ds * SAMPLE_UNIT_MS
            stamp = (boot, max(last.mono_ms - age_ms, 0))
            if newest is not None:
                if stamp < newest.stamp or not is_replaced(newest.sample, sample):
                    fields = spread(fields, newest.latest())
            elif latest is not None and (
                stamp < (latest.stamp.boot_counter, latest.stamp.mono_ms)
                or not is_replaced(latest.sample, sample)
            ):
                fields = spread(fields, latest)
            newest = _Newest(sample, stamp, last, clock)
    if last is None:
        return vehicle
    return msgspec.structs.replace(
        vehicle,
        presence=vehicle.presence.heard(now=last.at.utc_ms),
        clock=clock,
        doubt=vehicle.doubt_after(last.session_id, last.mono_ms, at=last.at),
        fields=fields,
        latest=latest if newest is None else newest.latest(),
    )


def sampled_again(vehicle: VehicleState, told: Told) -> VehicleState:
    """Return a vehicle after a frame of telemetry that it may know already."""
    for sample in told.samples or (None,):
        known, alone = vehicle.twin, msgspec.structs.replace(vehicle, latest=None)
        parts = (
            told if sample is None else msgspec.structs.replace(told, samples=(sample,))
        )
        heard = folded(alone, (parts,))
        after = spread(known, heard.latest, is_again=True)
        kept = (vehicle.fields, vehicle.latest) if after is known else (after, None)
        vehicle = msgspec.structs.replace(heard, fields=kept[0], latest=kept[1])
    return vehicle
