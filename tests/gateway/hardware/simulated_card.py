"""A card before nfcpy's ``udp:`` driver, on loopback.

The driver sends each transmission as a datagram ``106A <hex>`` and ``RFOFF`` when it
switches its field off (nfcpy 1.0.4 clf/udp.py). nfcpy's own listener could answer, but
binds to all addresses of the machine; this one binds to 127.0.0.1 and also tells a test
how often it was scanned, and speaks nonsense when asked to.

What it answers is ISO/IEC 14443-3, 6.5: REQA, anticollision and selection by cascade
levels, and to RATS (ISO/IEC 14443-4, 5.6) with a short ATS, as a DESFire does.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

SENS_RES = bytes.fromhex("4403")
"""ATQA of a MIFARE DESFire: UID of two levels."""

SEL_RES_TYPE_4A = 0x20
"""SAK: speaks ISO/IEC 14443-4."""

UID_INCOMPLETE = 0x04
"""SAK: another cascade level follows."""

CASCADE_TAG = 0x88
ATS = bytes.fromhex("067577810280")
REQA = bytes.fromhex("26")
RATS = 0xE0
LEVELS = (0x93, 0x95, 0x97)
ANTICOLLISION = 0x20
SELECT = 0x70


class CardField(asyncio.DatagramProtocol):
    """The field before a reader, with one card or none in it."""

    def __init__(self) -> None:
        self.uid: bytes | None = None
        """UID of the card in the field; None for an empty field."""
        self.uid_at_scan: Callable[[int], bytes] | None = None
        """Makes another UID of each scan's number, as a phone has one."""
        self.nonsense: bytes | None = None
        """Datagram that answers everything instead."""
        self.scans = 0
        self._scanned = asyncio.Condition()
        self._transport: asyncio.DatagramTransport | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def path(self) -> str:
        """Where nfcpy finds it."""
        assert self._transport is not None
        host, port = self._transport.get_extra_info("sockname")
        return f"udp:{host}:{port}"

    async def scanned(self, times: int) -> None:
        """Return when the reader has looked that many times more."""
        target = self.scans + times
        async with asyncio.timeout(8), self._scanned:
            await self._scanned.wait_for(lambda: self.scans >= target)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert self._transport is not None
        if data.startswith(b"RFOFF"):
            return
        bit_rate, _, content = data.partition(b" ")
        command = bytes.fromhex(content.decode())
        if command == REQA:
            self.scans += 1
            if self.uid_at_scan is not None:
                self.uid = self.uid_at_scan(self.scans)
            task = asyncio.get_running_loop().create_task(self._notify())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self.nonsense is not None:
            self._transport.sendto(self.nonsense, addr)
            return
        answer = None if self.uid is None else respond(self.uid, command)
        if answer is not None:
            self._transport.sendto(bit_rate + b" " + answer.hex().encode(), addr)

    async def _notify(self) -> None:
        async with self._scanned:
            self._scanned.notify_all()


def levels(uid: bytes) -> list[bytes]:
    """Return what each cascade level says: four bytes and their check byte."""
    parts = []
    while len(uid) > 4:
        parts.append(bytes([CASCADE_TAG]) + uid[:3])
        uid = uid[3:]
    parts.append(uid)
    return [part + bytes([part[0] ^ part[1] ^ part[2] ^ part[3]]) for part in parts]


def respond(uid: bytes, command: bytes) -> bytes | None:
    """Return what a card answers to a command, None for silence."""
    if command == REQA:
        return SENS_RES
    if command[0] == RATS:
        return ATS
    said = levels(uid)
    for place, code in enumerate(LEVELS[: len(said)]):
        if command == bytes([code, ANTICOLLISION]):
            return said[place]
        if command == bytes([code, SELECT]) + said[place]:
            is_last = place == len(said) - 1
            return bytes([SEL_RES_TYPE_4A if is_last else UID_INCOMPLETE])
    return None


@asynccontextmanager
async def card_field() -> AsyncIterator[CardField]:
    """Open a field on a free port of loopback."""
    loop = asyncio.get_running_loop()
    transport, field = await loop.create_datagram_endpoint(
        CardField, local_addr=("127.0.0.1", 0)
    )
    try:
        yield field
    finally:
        transport.close()
