"""The enrolment service on loopback, and a device that asks it over real TLS."""

import asyncio
import base64
import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certs.audit_log import AuditEvent
from certs.authority import new_tls_key, pem_chain
from certs.enrolment import Claim, VehicleKeys
from certs.enrolment_server import enrolment_service
from certs.fleet import FleetDirectory
from certs.vehicle import random_vehicle_id
from certs.voucher import CLAIM_LIFETIME, make_claim
from protocol.enrolment import grace_message
from protocol.fleet import FleetPart
from protocol.identity import VehicleId
from protocol.keyfile import build_key


def real_now() -> datetime:
    """The time of OpenSSL, which has no clock of ours."""
    return datetime.fromtimestamp(time.clock_gettime(time.CLOCK_REALTIME), tz=UTC)


@dataclass
class Answer:
    """What the service said."""

    status: int
    body: dict[str, Any]
    retry_after: str | None = None

    @property
    def error(self) -> str:
        return str(self.body.get("error", ""))

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(
            base64.b64decode(self.body["certificate"])
        )


@dataclass
class Office:
    """A fleet and its running service; `shift` moves the authority's clock."""

    fleet: FleetDirectory
    port: int = 0
    shift: timedelta = field(default_factory=timedelta)

    def now(self) -> datetime:
        return real_now() + self.shift

    def claim(
        self,
        vehicle_id: VehicleId,
        *,
        serial: str = "",
        lifetime: timedelta = CLAIM_LIFETIME,
    ) -> str:
        with closing(self.fleet.books()) as books:
            return make_claim(
                self.fleet,
                books,
                vehicle_id=vehicle_id,
                serial=serial,
                lifetime=lifetime,
                now=self.now(),
            ).text

    def events(self) -> list[AuditEvent]:
        return list(self.fleet.audit_log.read())

    def alarms(self) -> list[str]:
        return [one.event for one in self.events() if one.severity == "alarm"]

    def post(
        self,
        path: str,
        body: object,
        *,
        identity: tuple[Path, Path] | None = None,
        anchors: Path | None = None,
        method: str = "POST",
    ) -> Answer:
        context = ssl.create_default_context(
            cafile=str(anchors or self.fleet.path / FleetPart.TRUST_ANCHORS)
        )
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if identity is not None:
            context.load_cert_chain(*identity)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=context, timeout=20
        )
        with closing(connection):
            connection.request(method, path, body=data if method == "POST" else None)
            response = connection.getresponse()
            return Answer(
                response.status,
                json.loads(response.read()),
                response.getheader("Retry-After"),
            )


@contextmanager
def open_office(fleet: FleetDirectory) -> Iterator[Office]:
    """Run the service in a thread of its own until the block ends."""
    office = Office(fleet)
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    failed: list[BaseException] = []

    async def serve() -> None:
        async with enrolment_service(
            fleet, host="127.0.0.1", port=0, clock=office.now
        ) as address:
            office.port = address[1]
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        except BaseException as error:  # noqa: BLE001 - shown by the test's thread
            failed.append(error)
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait(20)
    try:
        if failed:
            raise failed[0]
        yield office
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop.set)
        thread.join(20)


def tls_request(
    name: str, key: ec.EllipticCurvePrivateKey | None = None
) -> tuple[bytes, ec.EllipticCurvePrivateKey]:
    """A PKCS#10 request in DER, and its key."""
    key = key or new_tls_key()
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .sign(key, hashes.SHA256())
    )
    return request.public_bytes(Encoding.DER), key


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass
class Device:
    """A car with keys of its own, before and after its enrolment."""

    office: Office
    folder: Path
    vehicle_id: VehicleId = field(default_factory=random_vehicle_id)
    keys: VehicleKeys = field(default_factory=VehicleKeys.generate)

    def body(self, claim: str, **changes: object) -> dict[str, object]:
        """The body of an enrolment."""
        made = self.proof()
        return {
            "format": 1,
            "claim": claim,
            "vehicle_id": str(self.vehicle_id),
            "tls_request": text(made.tls_request.public_bytes(Encoding.DER)),
            "signing_key": text(made.signing_key),
            "sealing_key": text(made.sealing_key),
            "proof": text(made.proof),
        } | changes

    def proof(self) -> Claim:
        return self.keys.claim(
            self.vehicle_id, fleet_id=self.office.fleet.fleet.fleet_id
        )

    def enroll(self, claim: str, **changes: object) -> Answer:
        answer = self.office.post("/v1/enroll", self.body(claim, **changes))
        if answer.status == 200:
            self.keep(answer, self.keys.tls)
        return answer

    def keep(self, answer: Answer, key: ec.EllipticCurvePrivateKey) -> None:
        chain = [
            x509.load_der_x509_certificate(base64.b64decode(one))
            for one in answer.body["chain"]
        ]
        (self.folder / "tls.crt").write_bytes(pem_chain(answer.certificate, *chain))
        (self.folder / "tls.key").write_bytes(build_key(key))

    @property
    def identity(self) -> tuple[Path, Path]:
        return self.folder / "tls.crt", self.folder / "tls.key"

    def reenroll(
        self, *, name: str | None = None, key: ec.EllipticCurvePrivateKey | None = None
    ) -> Answer:
        request, key = tls_request(name or str(self.vehicle_id), key)
        answer = self.office.post(
            "/v1/reenroll",
            {"format": 1, "tls_request": text(request)},
            identity=self.identity,
        )
        if answer.status == 200:
            self.keep(answer, key)
        return answer

    def nonce(self) -> bytes:
        answer = self.office.post(
            "/v1/grace/nonce", {"format": 1, "vehicle_id": str(self.vehicle_id)}
        )
        assert answer.status == 200
        return base64.b64decode(answer.body["nonce"])

    def grace_body(
        self, nonce: bytes, *, alter: Callable[[bytes], bytes] = bytes
    ) -> dict[str, object]:
        request, _key = tls_request(str(self.vehicle_id))
        message = grace_message(
            self.office.fleet.fleet.fleet_id, self.vehicle_id, nonce, request
        )
        return {
            "format": 1,
            "vehicle_id": str(self.vehicle_id),
            "tls_request": text(request),
            "nonce": text(nonce),
            "signature": text(alter(self.keys.signing.sign(message))),
        }

    def grace(self, nonce: bytes | None = None) -> Answer:
        body = self.grace_body(self.nonce() if nonce is None else nonce)
        return self.office.post("/v1/grace", body)
