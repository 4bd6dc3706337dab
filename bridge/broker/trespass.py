"""Who tries what the broker refuses: read from the broker's own log (row 23).

What a broker refuses never reaches the bridge, so nobody but the broker can tell of it.
nats-server names client and deed of each refused publish and subscription. mosquitto
writes a refused publish to its log at `log_type debug` alone, beside a line for every
packet, so there only the fight for a name is seen, unless it has loaded the observer of
deploy/mosquitto-plugin, which says it as nats-server does (docs/operations.md, 3).

Each refusal is a line, and neither broker bounds what it writes to standard error, so
who is refused could fill the disk: the embedded broker's log is bounded here.
"""

import asyncio
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from bridge.broker.service_certificate import SERVICE_NAME, write_private

LOOK_S: Final = 1.0
"""How often the log is read."""

AGAIN_S: Final = 60.0
"""How long nothing more is said of a name that was named, in s."""

TURNS: Final = 2
"""Sessions of one name that end one another within `AGAIN_S` before it is said: a car
that changes its network does it once, two that have the same key again and again."""

CHUNK: Final = 1 << 20
"""Bytes read in one look; a log that grows faster is read later."""

LOG_LIMIT: Final = 16 << 20
"""Bytes of the log. Beyond them its newest half is kept as ``broker.log.1``, instead of
the one before, and the log begins anew; a rogue gets one look's worth more."""

NAMES_LIMIT: Final = 10_000
"""Names that are remembered: no more than an embedded broker serves."""

_REFUSED: Final = re.compile(r'"([^"\s]{1,64})" - (Publish|Subscription) Violation')
_THROWN: Final = re.compile(r"Client (\S{1,64}) already connected, closing old")
_GUARD: Final = re.compile(rf" as (\S{{1,64}}) \(.* u'{SERVICE_NAME}'\)")
"""It was the guard that threw it off, which takes a withdrawn car's name for that: the
next line of that name says so, by the certificate."""

_LOG: Final = logging.getLogger(__name__)


class Deed(StrEnum):
    """What was tried; the label of the metric."""

    PUBLISH = "publish"
    """To publish to topics of others."""
    SUBSCRIBE = "subscribe"
    """To listen to them."""
    TWICE = "twice"
    """To connect, again and again, beside somebody of the same name."""


@dataclass(frozen=True, slots=True)
class Trespass:
    """What a broker's log says of one name, once in `AGAIN_S`."""

    name: str
    """From the certificate; of whose key was used, whoever used it."""
    deed: Deed

    def __str__(self) -> str:
        """Say it in a sentence for the log."""
        if self.deed is Deed.TWICE:
            return (
                f"{self.name} threw itself off again and again: two programs have the "
                "same certificate, or somebody stole it"
            )
        return f"{self.name} was refused: it tried to {self.deed} to topics of others"


class TrespassJudge:
    """Reads a broker's lines, one after the other, and says each deed once a minute."""

    def __init__(self) -> None:
        self._told_s: dict[tuple[str, Deed], float] = {}
        self._thrown_s: dict[str, list[float]] = {}

    def judge(self, line: str, now_s: float) -> Trespass | None:
        """Return what this line is news of; `now_s` only rises."""
        if (found := _REFUSED.search(line)) is not None:
            deed = Deed.PUBLISH if found[2] == "Publish" else Deed.SUBSCRIBE
            return self._news(found[1], deed, now_s)
        if (found := _GUARD.search(line)) is not None:
            self._thrown_s.get(found[1], [])[-1:] = []
            return None
        if (found := _THROWN.search(line)) is None:
            return None
        turns = self._thrown_s.setdefault(found[1], [])
        turns.append(now_s)
        return self._news(found[1], Deed.TWICE, now_s) if len(turns) >= TURNS else None

    def forget(self, now_s: float) -> None:
        """Let go of what was longer ago than `AGAIN_S`; call it every second or so."""
        since_s = now_s - AGAIN_S
        self._told_s = {k: at for k, at in self._told_s.items() if at > since_s}
        kept = {n: [t for t in s if t > since_s] for n, s in self._thrown_s.items()}
        self._thrown_s = {name: turns for name, turns in kept.items() if turns}

    def _news(self, name: str, deed: Deed, now_s: float) -> Trespass | None:
        if (name, deed) in self._told_s or len(self._told_s) >= NAMES_LIMIT:
            return None
        self._told_s[name, deed] = now_s
        return Trespass(name, deed)


class TrespassWatch:
    """Reads on in one log and bounds it; `look` or `run` it from one place."""

    def __init__(self, log: Path, *, clock_s: Callable[[], float]) -> None:
        """Begin at the log's first byte.

        Args:
            log: of a broker that has just been started, and which it appends to.
            clock_s: any clock that only rises, in s.
        """
        self._log = log
        self._clock_s = clock_s
        self._read = 0
        self._judge = TrespassJudge()

    async def run(self) -> None:
        """Say in our log what is in the broker's, until cancelled."""
        while True:
            for trespass in await asyncio.to_thread(self.look):
                _LOG.warning("= %s", trespass)
            await asyncio.sleep(LOOK_S)

    def look(self) -> list[Trespass]:
        """Return what is new since the last look."""
        now_s = self._clock_s()
        self._judge.forget(now_s)
        judged = [self._judge.judge(line, now_s) for line in self._lines()]
        self._bound()
        return [each for each in judged if each is not None]

    def _lines(self) -> list[str]:
        try:
            with self._log.open("rb") as file:
                file.seek(self._read)
                data = file.read(CHUNK)
        except OSError:
            return []
        # Half a line is read again when it is whole; one without an end is let go.
        whole = data.rfind(b"\n") + 1 or (len(data) if len(data) == CHUNK else 0)
        self._read += whole
        return data[:whole].decode("utf-8", "replace").splitlines()

    def _bound(self) -> None:
        """Begin the log anew if it is too long; what is unread then is in the copy.

        The broker has it open and does not open it again. It appends, so its next line
        comes first in a file that was cut to nothing; a line that it writes between our
        copy and the cut is lost.
        """
        try:
            with self._log.open("r+b") as file:
                if (size := file.seek(0, os.SEEK_END)) <= LOG_LIMIT:
                    return
                file.seek(max(0, size - LOG_LIMIT // 2))
                kept = file.read(LOG_LIMIT // 2)
                try:
                    write_private(self._log.with_name(f"{self._log.name}.1"), kept)
                finally:  # a full disk is what the cut is for
                    file.truncate(0)
                    self._read = 0
        except OSError as error:
            _LOG.error("= the broker's log cannot be bounded: %s", error)
