"""The enrolment service's HTTP, for tests of its client."""

import base64
import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from gateway.uplink.enrolment import EnrolmentError, Issued
from protocol.identity import VehicleId
from tests.gateway.uplink.office import Office
from transport.tls import TlsIdentity

Answer = tuple[int, dict[str, str], bytes]
"""Status, further headers, body."""


def answer_of(body: dict[str, Any], status: int = 200, **headers: str) -> Answer:
    return status, headers, json.dumps({"format": 1, **body}).encode()


class HttpsOffice:
    """Serves an `Office`; a test may put another answer in its place."""

    def __init__(self, office: Office, server: TlsIdentity) -> None:
        self.office = office
        self.tls = server
        self.override: Callable[[str], Answer] | None = None
        self.shown: list[str | None] = []
        """Common names of the clients' certificates, None for none."""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.verify_mode = ssl.CERT_OPTIONAL
        self._context.load_verify_locations(server.trust_anchors)
        self._context.load_cert_chain(server.certificate, server.key)

    def answer(  # noqa: PLR0911 - one for each path
        self, path: str, body: dict[str, Any]
    ) -> Answer:
        if self.override is not None:
            return self.override(path)
        try:
            match path:
                case "/v1/reenroll":
                    if self.shown[-1] is None:
                        return answer_of({"error": "certificate_required"}, 401)
                    request = base64.b64decode(body["tls_request"])
                    return issued_body(self.office.certify("reenroll", request))
                case "/v1/recertify":
                    certificate = self.office.recertify(
                        self.tls,
                        VehicleId.from_text(body["vehicle_id"]),
                        [base64.b64decode(one) for one in body["rotations"]],
                    )
                    text = base64.b64encode(certificate).decode()
                    return answer_of({"signing_certificate": text})
                case "/v1/grace/nonce":
                    self.office.calls.append("nonce")
                    return answer_of({"nonce": base64.b64encode(b"n" * 32).decode()})
                case _:
                    return issued_body(
                        self.office.grace(
                            self.tls,
                            VehicleId.from_text(body["vehicle_id"]),
                            base64.b64decode(body["tls_request"]),
                            nonce=base64.b64decode(body["nonce"]),
                            signature=base64.b64decode(body["signature"]),
                        )
                    )
        except EnrolmentError as error:
            return answer_of({"error": error.code, "detail": str(error)}, 403)

    @contextlib.contextmanager
    def serving(self) -> Iterator[int]:
        office = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert isinstance(self.connection, ssl.SSLSocket)
                office.shown.append(_name_in(self.connection.getpeercert() or {}))
                size = int(self.headers["Content-Length"])
                body = json.loads(self.rfile.read(size))
                assert body["format"] == 1
                status, headers, data = office.answer(self.path, body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_arguments: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_arguments: object) -> None:
                pass  # a refused handshake is what some tests are about

        with Server(("127.0.0.1", 0), Handler) as server:
            server.socket = self._context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            try:
                yield server.server_address[1]
            finally:
                server.shutdown()
                thread.join(10)


def issued_body(issued: Issued) -> Answer:
    def text(data: bytes) -> str:
        return base64.b64encode(data).decode()

    return answer_of(
        {
            "certificate": text(issued.certificate),
            "chain": list(map(text, issued.chain)),
            "anchors": list(map(text, issued.anchors)),
            "links": list(map(text, issued.links)),
            "record": "something of a later version",
        }
    )


def _name_in(certificate: dict[str, Any]) -> str | None:
    for part in certificate.get("subject", ()):
        for name, value in part:
            if name == "commonName":
                return str(value)
    return None
