"""Why a connection could not be made or was lost, in sentences with a next step; pure.

Below the link, a failure is an errno, an OpenSSL reason, an MQTT reason code or plain
silence. Here each becomes one `LinkError`.
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import aiomqtt
from paho.mqtt.reasoncodes import ReasonCode

from transport.addresses import Address
from transport.errors import LinkError, LinkFailure
from transport.tls import explain_tls_error

UNSUPPORTED_VERSION: Final = 132
"""CONNACK reason "unsupported protocol version" (MQTT 5, 3.2.2.2); paho gives the same
number for 3.1.1's return code 1."""

_TAKEN_OVER: Final = 142
"""DISCONNECT reason "session taken over" (MQTT 5, 3.14.2.1)."""

_GRAVEST: Final = (
    LinkFailure.TAKEN_OVER,
    LinkFailure.TLS,
    LinkFailure.REFUSED,
    LinkFailure.DOWN,
    LinkFailure.LOST,
    LinkFailure.TIMEOUT,
    LinkFailure.UNREACHABLE,
    LinkFailure.NAME,
)
"""Who said something knows more than who said nothing: a certificate that is refused
must be renewed, and a broker that is down is down for a whole fleet (K22)."""


class VersionRefusedError(LinkError):
    """The broker does not speak the MQTT version that was tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """What one connection needs to know; `transport.link` documents the values."""

    host: str
    port: int
    address: Address
    client_id: str
    protocol: aiomqtt.ProtocolVersion
    keepalive_s: int
    connect_timeout_s: float
    receive_maximum: int
    inbox_limit: int
    in_flight: int
    maximum_packet: int
    will: aiomqtt.Will | None

    @property
    def where(self) -> str:
        """Host and port, for messages, and the address if that is something else."""
        named, there = f"{self.host}:{self.port}", "{}:{}".format(*self.address)
        return named if there == named else f"{named} ({there})"


def name_error(error: OSError, host: str) -> LinkError:
    """Explain why a name has no address."""
    reason = error.strerror or str(error) or "no name server answers in time"
    return LinkError(
        f"the broker's host name {host!r} has no address ({reason}): check the name in "
        "the settings and this machine's DNS",
        failure=LinkFailure.NAME,
    )


def failure_of_all(failures: Sequence[LinkError]) -> LinkError:
    """Explain why no address of a broker gives a link; at least one failure."""
    if len(failures) == 1:
        return failures[0]
    worst = min((error.failure for error in failures), key=_GRAVEST.index)
    texts = dict.fromkeys(str(error) for error in failures)
    return LinkError("; ".join(texts), failure=worst)


def connect_error(error: Exception, options: ConnectOptions) -> LinkError:
    """Explain an exception of TCP or TLS."""
    if isinstance(error, ssl.SSLError):
        return LinkError(
            explain_tls_error(error, host=options.host), failure=LinkFailure.TLS
        )
    if isinstance(error, TimeoutError):
        return LinkError(
            f"no answer from the broker at {options.where} within "
            f"{options.connect_timeout_s:.3g} s: check address, port, network and that "
            "the broker is running",
            failure=LinkFailure.TIMEOUT,
        )
    if isinstance(error, ConnectionRefusedError):
        return LinkError(
            f"nothing listens at {options.where}: check address and port, and that "
            "the broker is running",
            failure=LinkFailure.DOWN,
        )
    if isinstance(error, ConnectionResetError):
        return LinkError(
            f"{options.where} reset the connection: check that a broker with TLS "
            "listens there, accepts our certificate and has a connection to spare (its "
            "log says why not)",
            failure=LinkFailure.REFUSED,
        )
    return LinkError(
        f"the broker at {options.where} cannot be reached ({error}): check address, "
        "port and network",
        failure=LinkFailure.UNREACHABLE,
    )


def connack_error(reason_code: ReasonCode, options: ConnectOptions) -> LinkError:
    """Explain a refusal of CONNECT."""
    if reason_code.value == UNSUPPORTED_VERSION:
        return VersionRefusedError(
            f"the broker at {options.where} does not speak MQTT "
            f"{options.protocol.name}: set version to auto",
            failure=LinkFailure.REFUSED,
        )
    return LinkError(
        f"the broker at {options.where} refuses {options.client_id!r} "
        f"({reason_code}): check that this identity is registered and that the client "
        "id is the certificate's common name",
        failure=LinkFailure.REFUSED,
    )


def loss_error(
    reason_code: ReasonCode,
    options: ConnectOptions,
    *,
    socket_error: OSError | None,
    was_connected: bool,
) -> LinkError:
    """Explain the end of a connection.

    Args:
        reason_code: from DISCONNECT, or paho's idea of one.
        options: of the connection.
        socket_error: the last error of the socket, which paho keeps to itself.
        was_connected: whether CONNECT had been answered.
    """
    if isinstance(socket_error, ssl.SSLError):
        # TLS 1.3 lets a client finish before the broker looked at its certificate
        # (RFC 8446, 4.4.2): the refusal comes as an alert on the first read.
        return LinkError(
            explain_tls_error(socket_error, host=options.host), failure=LinkFailure.TLS
        )
    if not was_connected:
        return LinkError(
            f"{options.where} closed the connection instead of answering CONNECT: its "
            "log says why; usually it does not accept our certificate or client id",
            failure=LinkFailure.REFUSED,
        )
    if reason_code.value == _TAKEN_OVER:
        return LinkError(
            f"another connection took our client id {options.client_id!r}: each "
            "process needs a certificate of its own; is a second one running?",
            failure=LinkFailure.TAKEN_OVER,
        )
    return LinkError(
        f"the connection to the broker at {options.where} was lost ({reason_code}): "
        "connect again; if this repeats at once, look whether another process uses "
        "the same certificate",
        failure=LinkFailure.LOST,
    )


def closed_by_us() -> LinkError:
    """Return what who still waits gets to hear after an orderly end."""
    return LinkError("this link was closed by us", failure=LinkFailure.LOST)
