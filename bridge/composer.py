"""Carries compound orders on: the next part when the one before it is done, the end.

What is to be done next is decided by `bridge.compound` from what is stored and nothing
else, so it does not matter who looks or how often: this bridge as soon as a part ends,
its sweep twice a second, another bridge, or the same one after a crash.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import assert_never

from sqlalchemy import Connection

from bridge import cloud_event, commands
from bridge.commands import CommandRecord, Origin
from bridge.compound import End, Send, key_of, next_step
from bridge.errors import OrderRefusedError, StoreError
from bridge.orders import KINDS
from bridge.ports import WallClock
from bridge.rows.commands import load_commands, replace_command
from bridge.rows.outbox import write_outbox
from bridge.store import Store
from bridge.wire import LOG
from protocol.codes import Opcode

Sign = Callable[[CommandRecord, bytes], Awaitable[CommandRecord]]
"""Returns a command with this payload signed for its car as it is now.

Raises `OrderRefusedError`: it cannot be given now; nothing was signed."""


class Composer:
    """Carries compounds on until each has its end."""

    def __init__(
        self,
        *,
        store: Store,
        sign: Sign,
        send: Callable[[CommandRecord], Awaitable[None]],
        ended: Callable[[CommandRecord], None],
        now: WallClock,
    ) -> None:
        """Begin with none.

        Args:
            store: has compounds and parts.
            sign: signs a part.
            send: sends it, once it is stored.
            ended: is told of a compound's end, after its commit.
            now: UTC ms.
        """
        self._store = store
        self._sign = sign
        self._send = send
        self._ended = ended
        self._now = now
        self._under_way: set[asyncio.Task[None]] = set()

    async def signed_part(self, compound: CommandRecord, number: int) -> CommandRecord:
        """Return one of its parts, signed now and not stored yet.

        Raises:
            OrderRefusedError: it cannot be given now.
        """
        part = compound.parts[number]
        record = commands.request(
            CommandRecord(
                command_id=part.command_id,
                vehicle_id=compound.vehicle_id,
                kind=KINDS[Opcode(part.opcode)],
                opcode=part.opcode,
                rental_id=compound.rental_id,
                requested_ms=self._now(),
                idempotency_key=key_of(compound.command_id, number),
                request_digest=compound.request_digest,
                part_of=compound.command_id,
                origin=Origin(approval_id=compound.origin.approval_id),
            )
        )
        return await self._sign(record, part.payload)

    async def parts_of(self, compound: CommandRecord) -> dict[bytes, CommandRecord]:
        """Return those of its parts that exist, by id."""
        wanted = [part.command_id for part in compound.parts]
        return await self._store.read(lambda c: load_commands(c, wanted))

    def stir(self, compound_id: bytes) -> None:
        """Carry a compound on soon: a part of it has ended."""
        task = asyncio.create_task(self._try(compound_id), name="compound")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def close(self) -> None:
        """Stop; what is not done is carried on by the next sweep, or the next start."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _try(self, compound_id: bytes) -> None:
        try:
            await self.carry_on(compound_id)
        except StoreError as error:
            LOG.warning("= compound %s: %s", compound_id.hex()[:8], error)

    async def carry_on(self, compound_id: bytes) -> None:
        """Do what is to be done next, if anything.

        Raises:
            StoreError: the next sweep tries again.
        """
        compound = await self._store.command(compound_id)
        if compound is None or not compound.parts or compound.state.is_terminal:
            return
        known = await self.parts_of(compound)
        step = next_step(compound, known, now=self._now())
        match step:
            case None:
                return
            case Send(number=number):
                await self._give(compound, number)
            case End(record=after):
                await self._end(compound, after, known)
            case _:
                assert_never(step)

    async def _end(
        self,
        before: CommandRecord,
        after: CommandRecord,
        known: Mapping[bytes, CommandRecord],
    ) -> None:
        now = self._now()
        event = cloud_event.compound_ended(
            after, known, fleet_id=self._store.fleet_id, now=now
        )

        def work(connection: Connection) -> bool:
            if not replace_command(connection, before, after):
                return False
            write_outbox(connection, [event], now=now)
            return True

        if await self._store.write(work):
            self._ended(after)

    async def _give(self, compound: CommandRecord, number: int) -> None:
        try:
            record = await self.signed_part(compound, number)
        except OrderRefusedError as refused:
            # Offline, in doubt, or nothing may be signed: until the last instant.
            LOG.info("= compound %s waits: %s", compound.command_id.hex()[:8], refused)
            return
        if await self._store.add_command(record) is record:
            await self._send(record)
