"""What a gateway would find if it started now: certificate, devices, broker.

An inspection takes nothing from a running car: it never logs in at the broker, where a
second login would end the first, and it gives every device back. A device that a
running gateway holds is reported as in use.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from gateway.core.events import BoardLost, BoardReported, Event
from gateway.core.reading import Reading
from gateway.hardware import nfc_reader, serial_line
from gateway.hardware.errors import DeviceUnavailableError
from gateway.hardware.serial_board import BAUD, SerialBoard
from gateway.settings import BrokerSettings, Settings
from gateway.storage.identity import Identity
from protocol.codes import EnergyKind
from transport.errors import TlsSetupError
from transport.tls import TlsIdentity, client_context, explain_tls_error

CONNECT_TIMEOUT_S: Final = 5.0
"""For each step of reaching the broker."""

REFUSAL_WAIT_S: Final = 0.5
"""In TLS 1.3 a server refuses our certificate after its own handshake is done; a broker
that accepts it says nothing and waits for CONNECT."""

_CABLE: Final = "check the cable, and that the board runs firmware for this protocol"


@dataclass(frozen=True, slots=True)
class Finding:
    """One part of the car, and whether it is ready."""

    part: str
    """Which: certificate, board, reader, positioning or broker."""
    is_ready: bool
    """Whether the gateway can use it now."""
    text: str
    """What was found."""
    advice: str = ""
    """What to do; empty where nothing is wrong."""


def tls_of(identity: Identity) -> TlsIdentity:
    """Return where a vehicle's TLS files lie."""
    return TlsIdentity(
        identity.certificate, identity.certificate_key, identity.trust_anchors
    )


def inspect(
    settings: Settings, identity: Identity, *, now: datetime, listen: bool
) -> Iterator[Finding]:
    """Yield a finding for each part, in the order in which a car needs them.

    Args:
        settings: what the gateway is told.
        identity: who it is.
        now: against which the certificate is held.
        listen: whether to wait until the board reports, up to 4 s, or only open ports.
    """
    yield _inspect_board(settings.board.port, listen=listen)
    yield _inspect_reader(settings.reader.path)
    if settings.positioning is not None:
        receiver = settings.positioning
        yield _inspect_port("positioning", receiver.port, receiver.baud)
    try:
        context = client_context(tls_of(identity), now=now)
    except TlsSetupError as error:
        yield Finding("certificate", is_ready=False, text=str(error))
        return
    yield Finding("certificate", is_ready=True, text=str(identity.certificate))
    yield _inspect_brokers(settings.broker, context)


def _inspect_port(part: str, path: str, baud: int) -> Finding:
    try:
        serial_line.probe(path, baud=baud)
    except DeviceUnavailableError as error:
        return Finding(part, is_ready=False, text=str(error), advice=error.advice)
    return Finding(part, is_ready=True, text=f"{path} opens at {baud} bit/s")


def _inspect_board(path: str, *, listen: bool) -> Finding:
    opened = _inspect_port("board", path, BAUD)
    if not opened.is_ready or not listen:
        return opened
    reading = asyncio.run(_first_reading(path))
    if reading is None:
        return Finding(
            "board",
            is_ready=False,
            text=f"{path} opens, but nobody there reports a state",
            advice=_CABLE,
        )
    return Finding("board", is_ready=True, text=f"{path}: {describe(reading)}")


async def _first_reading(path: str) -> Reading | None:
    """Return the board's first report, None if it is silent."""
    first: asyncio.Future[Reading | None] = asyncio.get_running_loop().create_future()

    def take(event: Event) -> None:
        if first.done():
            return
        if isinstance(event, BoardReported):
            first.set_result(event.reading)
        elif isinstance(event, BoardLost):
            first.set_result(None)

    board = asyncio.create_task(SerialBoard(path).run(take))
    try:
        return await first
    finally:
        board.cancel()
        await asyncio.wait([board])


def describe(reading: Reading) -> str:
    """Put the facts of a reading that an installer compares with the car in a line."""
    kind = "fuel" if reading.energy_kind is EnergyKind.FUEL else "charge"
    supply = None if reading.supply_mv is None else reading.supply_mv / 1000
    facts = [
        "locked" if reading.locked else "not locked",
        "a door open" if reading.door_open else "doors closed",
        "engine released" if reading.engine_released else "engine held",
        _measured(kind, reading.energy_pct, "%"),
        _measured("washer fluid", reading.washer_pct, "%"),
        _measured("supply", supply, "V"),
    ]
    return ", ".join(facts)


def _measured(name: str, value: float | None, unit: str) -> str:
    return f"{name} unknown" if value is None else f"{name} {value:g} {unit}"


def _inspect_reader(path: str) -> Finding:
    try:
        described = nfc_reader.probe(path)
    except DeviceUnavailableError as error:
        return Finding("reader", is_ready=False, text=str(error), advice=error.advice)
    return Finding("reader", is_ready=True, text=described)


def _inspect_brokers(settings: BrokerSettings, context: ssl.SSLContext) -> Finding:
    """Return the first host that is ready; else what is wrong with all of them."""
    hosts = (settings.host, *settings.other_hosts)
    findings = []
    for host in hosts:
        finding = _inspect_broker(host, settings.port, context)
        if finding.is_ready:
            return finding
        findings.append(finding)
    return replace(findings[0], text="; ".join(finding.text for finding in findings))


def _inspect_broker(host: str, port: int, context: ssl.SSLContext) -> Finding:
    where = f"{host}:{port}"
    try:
        with (
            socket.create_connection((host, port), CONNECT_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as connection,
        ):
            connection.settimeout(REFUSAL_WAIT_S)
            _await_refusal(connection)
    except ssl.SSLError as error:
        return Finding(
            "broker",
            is_ready=False,
            text=f"{where}: {explain_tls_error(error, host=host)}",
        )
    except (OSError, UnicodeError) as error:  # the latter of what can be no name
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = said.lower()
        return Finding(
            "broker",
            is_ready=False,
            text=f"{where}: {reason}",
            advice="start the broker, or check broker.host and broker.port",
        )
    return Finding("broker", is_ready=True, text=f"{where} accepts our certificate")


def _await_refusal(connection: ssl.SSLSocket) -> None:
    try:
        if connection.recv(1) == b"":
            raise ConnectionResetError(None, "closed the connection at once")
    except TimeoutError:
        return
