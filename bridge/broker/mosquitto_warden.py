"""Keeps withdrawn vehicles off a mosquitto, which cannot ask anybody who they are.

mosquitto 2.0 admits every certificate of our CA. So two things are done for a vehicle
that is withdrawn, both measured on 2.0.11 (docs/adr/0011-revocation.md):

1. Its topics are denied in the access list, which mosquitto reads again on SIGHUP, also
   for sessions that stand. A list that is damaged or missing then would allow everybody
   everything, and an empty one nobody anything. So a list is written beside the old
   one, synced, read back, and only then put in its place in one step.
2. Its session is ended: on a listener of its own, on loopback and for one certificate,
   the warden connects with the vehicle's client id, which makes mosquitto close the
   other connection (MQTT 5, 3.1.4). A vehicle that connects again has no topics, and is
   thrown out again at the next round.
"""

import asyncio
import logging
import os
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bridge.broker.access import BrokerAccess
from bridge.broker.mosquitto import mosquitto_access_list
from protocol.identity import VEHICLE_TEXT
from protocol.topic import PREFIX
from transport.errors import TransportError
from transport.link import LinkSettings, MqttLink, MqttVersion

LOOK_S: Final = 1.0
"""How often the registry is asked who is withdrawn; who is new there is dealt with."""

SWEEP_S: Final = 5.0
"""How often all who are withdrawn are thrown out, as they may have connected again. One
takes about 3 ms, and it may be one that is not connected."""

_TIMEOUT_S: Final = 5.0
_DENIAL: Final = re.compile(
    rf"^topic deny {re.escape(PREFIX)}/({VEHICLE_TEXT.pattern})/#$", re.MULTILINE
)
_LOG: Final = logging.getLogger(__name__)


def _denied_in(access_list: Path) -> frozenset[str]:
    """Return whom a list of ours denies; nobody if there is none."""
    try:
        text = access_list.read_text("ascii")
    except (OSError, ValueError):
        return frozenset()
    return frozenset(_DENIAL.findall(text))


class MosquittoWarden:
    """Applies a `BrokerAccess` to one mosquitto.

    Args:
        access: who is who, and who is withdrawn; asked at every round.
        access_list: mosquitto's ``acl_file``; its directory is ours to write in.
        reload: makes mosquitto read it again (SIGHUP).
        port: of the warden's own listener on 127.0.0.1.
        context: trusts that listener and has the certificate that it trusts.
        written: whose topics the access list denies already; None if nobody knows.
    """

    def __init__(
        self,
        access: BrokerAccess,
        *,
        access_list: Path,
        reload: Callable[[], None],
        port: int,
        context: ssl.SSLContext,
        written: frozenset[str] | None = None,
    ) -> None:
        self._access = access
        self._access_list = access_list
        self._reload = reload
        self._port = port
        self._context = context
        self._written = written
        self._inherited = _denied_in(access_list) if written is None else written
        self._known: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Keep them out until cancelled; failures are logged and tried again."""
        rounds = round(SWEEP_S / LOOK_S)
        while True:
            for number in range(rounds):
                await self.keep_out(everybody=number == 0)
                await asyncio.sleep(LOOK_S)

    async def keep_out(self, *, everybody: bool = True) -> None:
        """Deny the topics of who is withdrawn and end their sessions.

        Args:
            everybody: False to end sessions of those alone who are withdrawn since the
                last time.
        """
        # Who was denied before our start stays so, also if `revoked/` was lost since.
        inherited = {n for n in self._inherited if not self._access.is_vehicle(n)}
        withdrawn = self._access.withdrawn() | inherited
        expelled = withdrawn if everybody else withdrawn - self._known
        self._known = withdrawn
        if withdrawn != self._written:
            try:
                await asyncio.to_thread(self._write, withdrawn)
                self._reload()
            except OSError as error:
                _LOG.error(
                    "= access list %s cannot be written (%s): the old one stands, so "
                    "the broker still knows %d withdrawn vehicles' topics; make room "
                    "or give the directory to this user",
                    self._access_list,
                    error.strerror,
                    len(withdrawn - (self._written or frozenset())),
                )
            else:
                self._written = withdrawn
        for name in sorted(expelled):
            await self._expel(name)

    def _write(self, withdrawn: frozenset[str]) -> None:
        text = mosquitto_access_list(
            self._access.bridges, self._access.engineers, withdrawn
        ).encode()
        beside = self._access_list.with_suffix(".next")
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if beside.read_bytes() != text:
            raise OSError(None, "it does not read back as it was written")
        if self._access_list.exists():
            status = self._access_list.stat()
            beside.chmod(status.st_mode & 0o777)
            if os.geteuid() == 0:
                os.chown(beside, status.st_uid, status.st_gid)
        beside.rename(self._access_list)
        directory = os.open(self._access_list.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    async def _expel(self, name: str) -> None:
        settings = LinkSettings(
            "127.0.0.1",
            self._port,
            client_id=name,
            version=MqttVersion.V311,
            connect_timeout_s=_TIMEOUT_S,
        )
        try:
            async with MqttLink(settings, self._context):
                pass
        except TransportError as error:
            _LOG.error(
                "= withdrawn vehicle %s cannot be thrown out of the broker (%s); its "
                "topics are denied; tried again in %g s",
                name,
                error,
                SWEEP_S,
            )
