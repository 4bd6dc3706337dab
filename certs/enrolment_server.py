"""The enrolment service as a server: TLS 1.3, and the client's certificate if shown.

A client certificate that is shown must verify against the fleet's anchors for TLS
clients, or there is no connection; most paths ask for none. uvicorn keeps the verified
certificate to itself, so the protocol class below hands it to the application.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from certs.desk import EnrolmentDesk
from certs.enrolment_paths import CLIENT_CERTIFICATE, enrolment_application
from certs.errors import CertsError, FleetError
from certs.fleet import FleetDirectory
from certs.keeping import keep_house
from protocol.fleet import FleetPart
from transport.errors import TlsSetupError
from transport.http_server import served
from transport.tls import TlsIdentity, check_server_identity

LOG: Final = logging.getLogger(__name__)

CONNECTIONS_LIMIT: Final = 256
"""At once; a fleet's renewals are spread over days."""

IDLE_S: Final = 10
"""A connection that asks nothing more is closed after this."""

DRAIN_S: Final = 5
"""How long a stop waits for requests under way."""

KEEPING_INTERVAL_S: Final = 60.0
"""Between looks at certificates, revocation list and old rows."""


class _WithClientCertificate(H11Protocol):
    """HTTP/1.1 with the verified client certificate in each request's scope."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember who is connected."""
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        certificate = None if tls is None else tls.getpeercert(binary_form=True)
        inner = self.app

        async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
            scope[CLIENT_CERTIFICATE] = certificate
            await inner(scope, receive, send)

        self.app = app


def enrolment_context(identity: TlsIdentity, *, now: datetime) -> ssl.SSLContext:
    """Return the server's TLS context.

    Raises:
        TlsSetupError: a file is missing, out of its dates or of the wrong kind.
    """
    check_server_identity(identity, now=now)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    load_files(context, identity)
    return context


def load_files(context: ssl.SSLContext, identity: TlsIdentity) -> None:
    """Read the server's files into a context, again too: new connections use them.

    Raises:
        TlsSetupError: OpenSSL does not accept one.
    """
    try:
        context.load_verify_locations(identity.trust_anchors)
        context.load_cert_chain(identity.certificate, identity.key)
    except (ssl.SSLError, OSError) as error:
        raise TlsSetupError(
            f"OpenSSL does not accept {identity.certificate}, {identity.key} and "
            f"{identity.trust_anchors} ({error}): make the identity anew with "
            "`freefloat certs renew FLEET enrolment`"
        ) from error


@contextlib.asynccontextmanager
async def enrolment_service(
    fleet: FleetDirectory, *, host: str, port: int, clock: Callable[[], datetime]
) -> AsyncIterator[tuple[str, int]]:
    """Serve a fleet's enrolment while the block runs; give address and port.

    Args:
        fleet: whose.
        host: address to listen at.
        port: TCP port; 0 lets the system choose.
        clock: the time with a time zone.

    Raises:
        TlsSetupError: the service's TLS identity cannot be used.
        FleetError: CA, books or address cannot be used.
    """
    identity = TlsIdentity.of_fleet(fleet.path, FleetPart.ENROLMENT)
    context = enrolment_context(identity, now=clock())
    with contextlib.closing(fleet.books()) as books:
        authority = fleet.issuing_authority()
        desk = EnrolmentDesk(fleet, books, fleet.audit_log, authority)
        config = uvicorn.Config(
            enrolment_application(desk, clock=clock),
            http=_WithClientCertificate,
            ws="none",
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=DRAIN_S,
            limit_concurrency=CONNECTIONS_LIMIT,
        )
        config.load()
        config.ssl = context
        with _listener(host, port) as listener:
            async with served(config, listener):
                keeper = asyncio.create_task(
                    _keep(fleet, context, identity, clock=clock), name="keeping"
                )
                try:
                    yield listener.getsockname()[:2]
                finally:
                    keeper.cancel()
                    await asyncio.gather(keeper, return_exceptions=True)


async def _keep(
    fleet: FleetDirectory,
    context: ssl.SSLContext,
    identity: TlsIdentity,
    *,
    clock: Callable[[], datetime],
) -> None:
    while True:
        try:
            await asyncio.to_thread(keep_house, fleet, now=clock())
            check_server_identity(identity, now=clock())
            load_files(context, identity)
        except (CertsError, TlsSetupError, OSError) as error:
            LOG.warning("= keeping: %s", error)
        await asyncio.sleep(KEEPING_INTERVAL_S)


@contextlib.contextmanager
def _listener(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family, kind, proto, _name, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
    except OSError as error:
        raise FleetError(
            f"{host}:{port} is no address of this machine ({error})",
            "name one with --listen",
        ) from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(128)
        except OSError as error:
            raise FleetError(
                f"{host}:{port} cannot be listened at ({error.strerror})",
                "choose another port, or end the program that uses it",
            ) from error
        listener.setblocking(False)
        yield listener
