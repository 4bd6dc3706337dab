"""What the bridge depends on that ends by a date, said days before (row 35).

A certificate that ends unnoticed stops a fleet at once. The files are read anew each
time, as whoever renews one replaces it while the bridge runs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509

from bridge.ports import WallClock
from bridge.settings import Settings
from bridge.wire import LOG
from protocol.fleet import FleetPart
from protocol.trust import TrustBundle

WARN_DAYS: Final = 30
"""When whoever renews shall begin: a month, as `freefloat certs show` does."""

_DAY_MS: Final = 86_400_000
_FILE_LIMIT: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Ending:
    """Something that ends."""

    name: str
    """What, for people."""
    days: int
    """Whole days left; negative when it is over, and when it cannot be read."""
    advice: str
    """What to do."""


class ExpiryWatch:
    """Looks at dates; `look` reads files and costs a millisecond.

    Args:
        certificates: PEM files by what they are; of each the first to end counts.
        dates: other ends, UTC ms, by what they are.
        advice: what to do, by the same names.
        now: UTC ms.
    """

    def __init__(
        self,
        certificates: Mapping[str, Path],
        dates: Mapping[str, Callable[[], int]],
        advice: Mapping[str, str],
        *,
        now: WallClock,
    ) -> None:
        self._certificates = certificates
        self._dates = dates
        self._advice = advice
        self._now = now
        self._told: dict[str, int] = {}
        self.current: tuple[Ending, ...] = ()
        """What the last look found, the first to end first."""

    def look(self) -> tuple[Ending, ...]:
        """Read the files, log what ends soon once a day, and return all."""
        ends = {name: end() for name, end in self._dates.items()}
        ends |= {n: _end_ms(path) for n, path in self._certificates.items()}
        found = [
            Ending(name, (end_ms - self._now()) // _DAY_MS, self._advice[name])
            for name, end_ms in ends.items()
        ]
        self.current = tuple(sorted(found, key=lambda ending: ending.days))
        for ending in self.soon():
            if self._told.get(ending.name) != ending.days:
                self._told[ending.name] = ending.days
                LOG.warning("= expiry: %s %s", ending.name, describe(ending))
        return self.current

    def soon(self) -> list[Ending]:
        """Return what ends within `WARN_DAYS` or is over."""
        return [ending for ending in self.current if ending.days < WARN_DAYS]


def watch_expiry(
    settings: Settings, bundle: Callable[[], TrustBundle], *, now: WallClock
) -> ExpiryWatch:
    """Return the watch over everything that this bridge's settings name."""
    office = "at the office (docs/operations.md, section 10)"
    return ExpiryWatch(
        {
            "bridge certificate": settings.certificate,
            "issuing CA": settings.part(FleetPart.ISSUING_CERTIFICATE),
            "trust anchors": settings.trust_anchors,
        },
        {"trust bundle": lambda: bundle().expires_ms},
        {
            "bridge certificate": "put the next one in its place; no restart is needed",
            "issuing CA": f"make the next one {office}",
            "trust anchors": f"roll the root over {office}",
            "trust bundle": f"sign the next one {office} and put it beside this one",
        },
        now=now,
    )


def describe(ending: Ending) -> str:
    """Say when something ends and what to do."""
    if ending.days < 0:
        return f"has ended or cannot be read; {ending.advice}"
    days = "day" if ending.days == 1 else "days"
    return f"ends in {ending.days} {days}; {ending.advice}"


def _end_ms(path: Path) -> int:
    try:
        with path.open("rb") as file:
            chain = x509.load_pem_x509_certificates(file.read(_FILE_LIMIT))
    except (OSError, ValueError):
        return -1
    first = min(certificate.not_valid_after_utc for certificate in chain)
    return int(first.timestamp() * 1000)
