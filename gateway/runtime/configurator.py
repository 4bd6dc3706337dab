"""Configuration bodies from the fleet, brought into force and told (FF-CFG).

What counts is `gateway.core.configuration`'s to say; here it is committed. A body and
the entry that tells it stand in one transaction, so a power cut leaves both or neither.
"""

import logging
from typing import Protocol

from gateway.core.authentication import Dropped
from gateway.core.configuration import (
    Active,
    Complete,
    Configurations,
    Outcome,
    Rejected,
    Stray,
)
from gateway.core.facts import NO_FACTS, with_body
from gateway.core.moment import Moment
from gateway.ports import Store, StoreError
from gateway.runtime.room import room_of
from gateway.runtime.standing import Standing
from protocol.codes import Code, ConfigKind
from protocol.errors import DecodeError
from protocol.event import EventBody
from protocol.sync import ConfigChunk, ConfigOffer
from protocol.vehicle_event import ConfigurationActivated, ConfigurationRefused


class Note(Protocol):
    """Writes entries to the ledger, with what comes into force at once."""

    async def __call__(
        self, *entries: EventBody, now: Moment, configuration: Complete | None = None
    ) -> None:
        """Write them durably.

        Raises:
            StoreError: nothing of it was kept.
        """


class Configurator:
    """Takes offers and chunks that have been judged.

    Args:
        standing: what stands; a hello tells the bodies in force from there (FF-CFG-09).
        store: asked for room.
        note: writes the entries.
    """

    def __init__(self, standing: Standing, *, store: Store, note: Note) -> None:
        self._standing = standing
        self._store = store
        self._note = note
        self._desk = Configurations()
        self._log = logging.getLogger(__name__)

    def start(self, active: tuple[Active, ...]) -> None:
        """Begin with what the store holds."""
        self._desk = Configurations(active)
        self._standing.configurations = self._desk.active

    async def take_offer(self, offer: ConfigOffer, *, now: Moment) -> Dropped | None:
        """Begin a body; returns what is to be counted as dropped, if anything.

        Raises:
            StoreError: the disk failed; nothing came into force.
        """
        outcome = self._desk.take_offer(
            kind=offer.kind,
            version=offer.version,
            length=offer.length,
            sha256=offer.sha256,
            now_ms=now.boot_ms,
        )
        return await self._settle(outcome, now)

    async def take_chunk(self, chunk: ConfigChunk, *, now: Moment) -> Dropped | None:
        """Take a part; the last one brings the body into force.

        Raises:
            StoreError: the disk failed; nothing came into force.
        """
        outcome = self._desk.take_chunk(
            kind=chunk.kind,
            version=chunk.version,
            offset=chunk.offset,
            data=chunk.data,
            now_ms=now.boot_ms,
        )
        return await self._settle(outcome, now)

    def next_deadline(self) -> int | None:
        """Return the boot instant at which `pass_time` is due, if any."""
        return self._desk.next_deadline()

    async def pass_time(self, *, now: Moment) -> None:
        """Give up bodies that no chunk brought on for too long.

        Raises:
            StoreError: the disk failed.
        """
        for rejected in self._desk.pass_time(now_ms=now.boot_ms):
            await self._refuse(rejected, now)

    async def _settle(self, outcome: Outcome, now: Moment) -> Dropped | None:
        if isinstance(outcome, Complete):
            outcome = await self._activate(outcome, now)
        if isinstance(outcome, Rejected):
            await self._refuse(outcome, now)
        if isinstance(outcome, Stray):
            return Dropped(outcome.code, outcome.detail)
        return None

    async def _activate(self, complete: Complete, now: Moment) -> Outcome:
        active = complete.active
        kind = ConfigKind(active.kind)
        more_kib = len(complete.body) // 1024 + 1
        if not room_of(self._store, more_kib=more_kib).takes_rental:
            return self._desk.refuse(kind, Code.STORAGE_FULL)
        try:
            with_body(NO_FACTS, kind, complete.body)
        except DecodeError as error:
            self._log.warning("= configuration %s: %s", kind.name, error.detail)
            return self._desk.refuse(kind, error.code)
        try:
            await self._note(
                ConfigurationActivated(kind, active.version, active.sha256),
                now=now,
                configuration=complete,
            )
        except StoreError as error:
            if not error.retryable:
                raise
            return self._desk.refuse(kind, Code.STORAGE_FULL)
        self._desk.adopt(complete)
        self._standing.configurations = self._desk.active
        self._log.info("= configuration %s, version %d", kind.name, active.version)
        return None

    async def _refuse(self, rejected: Rejected, now: Moment) -> None:
        kind = ConfigKind(rejected.kind)
        self._log.warning(
            "= configuration %s, version %d, refused: %s",
            kind.name,
            rejected.version,
            rejected.code.name,
        )
        try:
            await self._note(
                ConfigurationRefused(kind, rejected.code, rejected.version), now=now
            )
        except StoreError as error:
            # A full disk has no room to say so; the next hello tells what is in force.
            if not error.retryable:
                raise
