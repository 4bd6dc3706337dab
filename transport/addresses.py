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
from itertools import zip_longest
from typing import Any, Final

ADDRESSES_LIMIT: Final = 8
"""Of one name, and the one that was good: a name server's answer is no reason to knock
at hundreds of machines."""

Address = tuple[str, int]
"""What TCP connects to: an address without a name, and a port."""


@dataclass(slots=True)
class AddressMemory:
    """Where the last link to each broker stood, and which address failed when.

    Kept by who reconnects, for as long as its process lives.
    """

    _good: dict[tuple[str, int], Address] = field(default_factory=dict)
    _failed: dict[tuple[str, int], dict[Address, int]] = field(default_factory=dict)
    """For each broker the present addresses that failed since they were good, with a
    number that grows."""
    _failures: int = 0

    def order(self, host: str, port: int, found: Sequence[Address]) -> list[Address]:
        """Return the addresses to try, in this order.

        What was good goes first while the name still has it, so that a dead address
        costs time once and not with each connection; else last. Then families take
        turns, as a whole one may be dead (RFC 8305, section 4). Of those that the name
        has, what failed goes behind what did not, the longest ago first: where an
        attempt's time is over before the last address, the next one begins there.

        Args:
            host: name of the broker.
            port: its port.
            found: what the name has now, in the name server's order.
        """
        good = self._good.get((host, port))
        known = list(dict.fromkeys(found))
        others = _alternating([one for one in known if one != good])[:ADDRESSES_LIMIT]
        tried = others if good is None else [good, *others]
        failed = self._failed.get((host, port), {})
        failed = {one: failed[one] for one in tried if one in failed}
        self._failed[host, port] = failed
        return sorted(tried, key=lambda one: (one not in known, failed.get(one, 0)))

    def note(self, host: str, port: int, address: Address) -> None:
        """Remember that a link of this broker stood here."""
        self._good[host, port] = address
        self._failed.get((host, port), {}).pop(address, None)

    def note_failure(self, host: str, port: int, address: Address) -> None:
        """Remember that there was no link here."""
        self._failures += 1
        self._failed.setdefault((host, port), {})[address] = self._failures


def _alternating(addresses: Sequence[Address]) -> list[Address]:
    """Let the families take turns, the first one's first; each keeps its order."""
    families: dict[bool, list[Address]] = {}
    for address in addresses:
        families.setdefault(":" in address[0], []).append(address)
    turns = zip_longest(*families.values())
    return [one for turn in turns for one in turn if one is not None]


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
