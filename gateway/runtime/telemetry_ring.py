"""Samples that wait for a link: bounded, thinned, the newest first; no I/O.

They are in memory alone. Nothing of theirs is worth the wear of a flash cell, and a
power cut may take them: what counts is in the ledger (protocol-design.md 3). So a full
disk is never filled by telemetry (I-20).

Rule 1: when there are too many, the older half is thinned: each change of mode or bits
stays, and of the rest every second one.
Rule 2: what still is too much, or older than a sample can say, is lost from the old
end, and counted, so that the number of the next frame shows it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from gateway.core.moment import Moment
from protocol.telemetry import SAMPLES_LIMIT, Sample, Telemetry

RING_SAMPLES: Final = 8 * SAMPLES_LIMIT
"""Eight frames, 8 KiB: an hour and a half of driving, the older half of it thinned."""

AGE_LIMIT_MS: Final = 0xFFFF * 100
"""An age is told in tenths of a second in 16 bits; an older sample has no date."""


@dataclass(frozen=True, slots=True)
class _Kept:
    taken_ms: int
    sample: Sample


class TelemetryRing:
    """The samples of an outage.

    Args:
        limit: how many are kept.
    """

    def __init__(self, limit: int = RING_SAMPLES) -> None:
        self._limit = limit
        self._kept: list[_Kept] = []
        self._lost = 0

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, sample: Sample, *, now: Moment) -> None:
        """Take a sample that was taken now."""
        self._kept.append(_Kept(now.boot_ms, sample))
        if len(self._kept) <= self._limit:
            return
        half = len(self._kept) // 2
        self._kept[:half] = _thinned(self._kept[:half])
        spare = len(self._kept) - self._limit
        if spare > 0:
            del self._kept[:spare]
            self._lost += spare

    def hand_over(self, *, now: Moment) -> tuple[tuple[Telemetry, ...], int]:
        """Return what waited and forget it.

        Returns:
            Frames, the newest first, each with its samples oldest first; and how many
            samples were lost since the last time, thinned ones not counted.
        """
        dated = [
            replace(kept.sample, age_ds=(now.boot_ms - kept.taken_ms) // 100)
            for kept in self._kept
            if now.boot_ms - kept.taken_ms <= AGE_LIMIT_MS
        ]
        lost = self._lost + len(self._kept) - len(dated)
        self._kept.clear()
        self._lost = 0
        return tuple(_frames(dated)), lost


def _frames(samples: list[Sample]) -> Iterator[Telemetry]:
    for end in range(len(samples), 0, -SAMPLES_LIMIT):
        yield Telemetry(tuple(samples[max(0, end - SAMPLES_LIMIT) : end]))


def _thinned(kept: list[_Kept]) -> list[_Kept]:
    """Return changes of state, and every second sample of the rest."""
    left: list[_Kept] = []
    skipped = True
    for place, each in enumerate(kept):
        before = kept[place - 1].sample if place else None
        changed = before is None or (before.mode, before.bits) != (
            each.sample.mode,
            each.sample.bits,
        )
        if changed or skipped:
            left.append(each)
            skipped = False
        else:
            skipped = True
    return left
