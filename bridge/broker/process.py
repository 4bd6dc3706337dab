"""One broker process: started, found ready, watched and stopped, by process id.

Nothing here knows which broker it is; `bridge.broker.mosquitto` and
`bridge.broker.nats` say what to run and how readiness reads in its log.
"""

import asyncio
import contextlib
import os
import re
import signal
import socket
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from bridge.broker.errors import BrokerDiedError, BrokerStartError

START_TIMEOUT_S: Final = 20.0
"""How long a broker may take to answer. mosquitto takes 0.05 s, nats-server 0.3 s and
0.6 s more for 14,000 users; the rest is for a busy machine (embedded-broker.md)."""

STOP_TIMEOUT_S: Final = 3.0
"""How long SIGTERM may take before SIGKILL: nats-server spends 10 ms per consumer on an
orderly end, and loses no acknowledged message by SIGKILL (embedded-broker.md)."""

_POLL_S: Final = 0.02
_HANDSHAKE_TIMEOUT_S: Final = 2.0
_LOG_TAIL: Final = 64 * 1024
"""Bytes at the end of the log that are searched for the reason of a failure."""
_LONGEST_QUOTE: Final = 400
"""Characters of the broker's own line in a message of ours."""

_COMPLAINT: Final = re.compile(
    r"error|fatal|\[FTL\]|\[ERR\]|unable|denied", re.IGNORECASE
)
_PORT_IN_USE: Final = re.compile(r"address already in use", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class BrokerCommand:
    """What to run, and how to know that it is ready."""

    name: str
    """For messages: mosquitto or nats-server."""
    arguments: tuple[str, ...]
    """Absolute path of the program, then its arguments."""
    log: Path
    """Where its output goes; appended to."""
    ready: str
    """What its log says when it listens."""
    host: str
    """Address that its MQTT listener is bound to."""
    port: int
    """Its MQTT port."""
    certificate: bytes
    """DER of the certificate that its MQTT listener must show."""
    trust_anchors: Path
    """PEM that this certificate's chain ends in."""
    start_timeout_s: float = START_TIMEOUT_S
    """How long it may take to answer; a program in Java takes longer."""


class BrokerProcess:
    """A running broker; get one by `start`, and `stop` it in any case."""

    def __init__(
        self, command: BrokerCommand, process: asyncio.subprocess.Process
    ) -> None:
        self._command = command
        self._process = process
        self._is_stopping = False

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_stopping(self) -> bool:
        """Whether its end is our own wish."""
        return self._is_stopping

    @classmethod
    async def start(cls, command: BrokerCommand) -> Self:
        """Start a broker and wait until it answers over TLS.

        Call it from a thread that lives as long as the broker shall: the kernel ends
        the broker with that thread (see `bridge.broker.launch`).

        Raises:
            BrokerStartError: it ended or did not answer; no process is left.
        """
        with command.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                str(Path(__file__).with_name("launch.py")),
                str(os.getpid()),
                *command.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A session of its own: Ctrl-C in a terminal reaches the clients and
                # not the broker, which is stopped after them.
                start_new_session=True,
            )
        broker = cls(command, process)
        try:
            await broker._await_ready()
        except BaseException:
            await broker.stop()
            raise
        return broker

    def reload(self) -> None:
        """Have it read its access list and certificates again (SIGHUP)."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGHUP)

    async def stop(self) -> None:
        """End the process: SIGTERM, then SIGKILL; returns when it is gone."""
        self._is_stopping = True
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await self._process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
        await self._process.wait()

    async def wait_died(self) -> BrokerDiedError:
        """Wait until the broker has ended unasked and return what it said.

        After `stop` it never returns; cancel it.
        """
        code = await self._process.wait()
        if self._is_stopping:
            await asyncio.get_running_loop().create_future()
        return BrokerDiedError(
            f"{self._command.name} (process {self.pid}) ended with code {code}: "
            f"{self._last_words()}; look into {self._command.log} and start again"
        )

    async def _await_ready(self) -> None:
        command = self._command
        try:
            async with asyncio.timeout(command.start_timeout_s):
                while not await self._is_ready():
                    if self._process.returncode is not None:
                        raise BrokerStartError(
                            f"{command.name} did not start on "
                            f"{command.host}:{command.port}: {self._last_words()}; "
                            f"{self._advice()}",
                            is_port_taken=self._is_port_taken(),
                        )
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise BrokerStartError(
                f"{command.name} did not answer on {command.host}:{command.port} "
                f"within {command.start_timeout_s:g} s: {self._last_words()}; "
                f"{self._advice()}"
            ) from error

    async def _is_ready(self) -> bool:
        """Whether our process says that it listens, and its certificate is there.

        Both: a port alone may be somebody else's, a log line alone is a claim.
        """
        if self._command.ready not in self._log_tail():
            return False
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # The certificate itself is compared, and it need not name the address that
        # the listener is bound to.
        context.check_hostname = False
        context.load_verify_locations(self._command.trust_anchors)
        try:
            async with asyncio.timeout(_HANDSHAKE_TIMEOUT_S):
                _, writer = await asyncio.open_connection(
                    _reachable(self._command.host), self._command.port, ssl=context
                )
        except (OSError, TimeoutError):
            return False
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.transport.abort()
        return bool(shown == self._command.certificate)

    def _is_port_taken(self) -> bool:
        return bool(_PORT_IN_USE.search(self._log_tail()))

    def _advice(self) -> str:
        if self._is_port_taken():
            return (
                f"another program has port {self._command.port}: stop it, or choose "
                "another port (0 finds a free one)"
            )
        return f"the whole log is {self._command.log}"

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._log_tail().splitlines()]
        complaints = [line for line in lines if _COMPLAINT.search(line)]
        for candidates in (complaints, lines):
            for line in reversed(candidates):
                if line:
                    return f"its log says {line[:_LONGEST_QUOTE]!r}"
        return "its log is empty"

    def _log_tail(self) -> str:
        with self._command.log.open("rb") as log:
            size = log.seek(0, 2)
            log.seek(max(0, size - _LOG_TAIL))
            return log.read().decode("utf-8", "replace")


def free_port(host: str) -> int:
    """Return a TCP port of `host` that is free now.

    Another program may take it before the broker does; the caller tries again then.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
