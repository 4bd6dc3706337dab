"""Connecting to one of several addresses, of which some may be dead (RFC 8305).

An address that answers nothing costs the next one a moment and not the whole patience:
the next connection begins `STAGGER_S` after the one before, or at once where none is
under way any more, and who answers first is taken. Only TCP is tried side by side: two
MQTT connections of one client throw each other off a broker, and tell its will.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterable
from typing import Final, Self

from transport.addresses import Address

STAGGER_S: Final = 0.5
"""Between two connections: twice what RFC 8305 (section 5) recommends, since over radio
an answer takes that long, and a broker need not see each car twice."""


class Race:
    """Connections to the addresses of one name; a context manager, entered once.

    At its end whatever was not taken is closed.
    """

    def __init__(self, addresses: Iterable[Address], *, timeout_s: float) -> None:
        """Begin with none.

        Args:
            addresses: in the order in which they are tried.
            timeout_s: how long each may take to answer.
        """
        self._waiting = list(addresses)
        self._timeout_s = timeout_s
        self._running: dict[asyncio.Task[socket.socket], Address] = {}
        self._begun_s = 0.0
        """When the youngest began, in the loop's time."""

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection that was not taken."""
        for task in self._running:
            task.cancel()
        for made in await asyncio.gather(*self._running, return_exceptions=True):
            if isinstance(made, socket.socket):
                made.close()

    @property
    def silent(self) -> list[Address]:
        """Addresses that were begun and have not answered yet."""
        return [one for task, one in self._running.items() if not task.done()]

    async def next(self) -> tuple[Address, socket.socket | OSError] | None:
        """Return the next that answers or fails; None if none is left.

        The socket is the caller's then. While nobody waits here none begins.
        """
        while self._waiting or self._running:
            for task in [one for one in self._running if one.done()]:
                address = self._running.pop(task)
                error = task.exception()
                if error is None:
                    return address, task.result()
                if isinstance(error, OSError):
                    return address, error
                raise error
            wait_s = self._begin_due()
            await asyncio.wait(
                self._running, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED
            )
        return None

    def _begin_due(self) -> float | None:
        """Begin what is due; return in how many seconds the next is, None for never."""
        now_s = asyncio.get_running_loop().time()
        if self._waiting and (not self._running or now_s - self._begun_s >= STAGGER_S):
            address = self._waiting.pop(0)
            task = asyncio.create_task(connect_tcp(address, self._timeout_s))
            self._running[task] = address
            self._begun_s = now_s
        return max(0.0, self._begun_s + STAGGER_S - now_s) if self._waiting else None


async def connect_tcp(address: Address, timeout_s: float) -> socket.socket:
    """Connect to an address; whoever gets the socket, which does not block, closes it.

    Raises:
        OSError: it failed; TimeoutError if nothing was answered.
    """
    family, kind, proto, _name, place = socket.getaddrinfo(
        *address,
        type=socket.SOCK_STREAM,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )[0]
    with contextlib.ExitStack() as unless_connected:
        made = unless_connected.enter_context(socket.socket(family, kind, proto))
        made.setblocking(False)
        async with asyncio.timeout(timeout_s):
            await asyncio.get_running_loop().sock_connect(made, place)
        unless_connected.pop_all()
    return made
