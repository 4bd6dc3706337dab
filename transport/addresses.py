"""At which addresses a broker may be, and which of them is asked first.

A name server may have several addresses for a name, some of them dead; it may be
silent for a day; it may lie. None of that is trusted: the certificate must name the
host, wherever it was found. So every address may be tried, and the one where the last
link stood is tried as well, although the name server no longer knows it.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

ADDRESSES_LIMIT: Final = 8
"""Of one name, and the one that was good: a name server's answer is no reason to keep a
car from its next attempt for minutes."""

Address = tuple[str, int]
"""What TCP connects to: an address without a name, and a port."""


@dataclass(slots=True)
class AddressMemory:
    """Where the last link to each broker stood.

    Kept by who reconnects, for as long as its process lives.
    """

    _good: dict[tuple[str, int], Address] = field(default_factory=dict)

    def order(self, host: str, port: int, found: Sequence[Address]) -> list[Address]:
        """Return the addresses to try, in this order.

        What was good goes first while the name still has it, so that a dead address
        costs time once and not with each connection; else last.

        Args:
            host: name of the broker.
            port: its port.
            found: what the name has now, in the name server's order.
        """
        good = self._good.get((host, port))
        known = list(dict.fromkeys(found))
        if good is None:
            return known[:ADDRESSES_LIMIT]
        others = [address for address in known if address != good][:ADDRESSES_LIMIT]
        return [good, *others] if good in known else [*others, good]

    def note(self, host: str, port: int, address: Address) -> None:
        """Remember that a link of this broker stood here."""
        self._good[host, port] = address


async def addresses_of(host: str, port: int) -> list[Address]:
    """Return what a name has; an address has itself, and nobody is asked for it.

    Raises:
        OSError: it has none, or no name server answers; `socket.gaierror` as a rule.
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return [(host, port)]
    # A thread of its own: the loop's default pool has few, and a name server that is
    # silent holds one for a quarter of a minute.
    executor = ThreadPoolExecutor(1, thread_name_prefix="mqtt-name")
    try:
        found = await asyncio.get_running_loop().run_in_executor(
            executor,
            lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM),
        )
    except UnicodeError as error:  # an empty label, or one above 63 bytes
        raise socket.gaierror(socket.EAI_NONAME, "no name that can be asked for") from (
            error
        )
    finally:
        executor.shutdown(wait=False)
    return [_plain(place) for _, _, _, _, place in found]


def _plain(place: tuple[Any, ...]) -> Address:
    host, port, _flow, scope = (*place, 0, 0)[:4]
    return (f"{host}%{scope}" if scope else host), port
