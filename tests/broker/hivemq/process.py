"""Runs HiveMQ CE with deploy/hivemq's settings and its extension, as a broker of ours.

It takes the place of `bridge.broker.embedded.EmbeddedBroker` in tests. `make brokers`
fetches it with Maven into var/hivemq; elsewhere its tests are skipped.
"""

import os
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    load_pem_private_key,
    pkcs12,
)

from bridge.broker.access import BrokerAccess
from bridge.broker.process import BrokerCommand, BrokerProcess, free_port
from transport.tls import TlsIdentity

ROOT: Final = Path(__file__).parents[3]
SETTINGS: Final = ROOT / "deploy/hivemq/config.xml"
PARTS: Final = Path(os.environ.get("FREEFLOAT_HIVEMQ", ROOT / "var/hivemq"))
"""Where `make brokers` has put its jars, our starter and the extension."""

PASSWORD: Final = b"of this test only"
HOST: Final = "127.0.0.1"
START_TIMEOUT_S: Final = 120.0
"""It took 6 to 25 s on a machine with two busy cores."""

JAVA: Final = ("-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


def missing() -> str | None:
    """Return why HiveMQ cannot be run here, or None."""
    if shutil.which("java") is None:
        return "there is no Java"
    if not (PARTS / "classes/Embedded.class").exists():
        return "HiveMQ is not here: `make brokers` fetches it with Maven"
    return None


class HiveMqBroker:
    """Enter it to start it; what it stored is gone afterwards."""

    kind: Final = "hivemq"
    host: Final = HOST

    def __init__(
        self,
        *,
        directory: Path,
        identity: TlsIdentity,
        access: BrokerAccess,
        clock: Callable[[], datetime],
        kind: str = "hivemq",
    ) -> None:
        """Note what to run; its extension knows who may do what by names alone."""
        del access, clock, kind
        self._directory = directory
        self._identity = identity
        self.port = 0
        self.log = directory / "hivemq.out"
        self._process: BrokerProcess | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def __aenter__(self) -> Self:
        for name in ("conf", "data"):
            (self._directory / name).mkdir(parents=True)
        shutil.copytree(PARTS / "extensions", self._directory / "extensions")
        shutil.copy(SETTINGS, self._directory / "conf/config.xml")
        chain, keystore, truststore = self._stores()
        self.port = free_port(HOST)
        settings = {
            "FREEFLOAT_ADDRESS": HOST,
            "FREEFLOAT_PORT": str(self.port),
            "FREEFLOAT_KEYSTORE": str(keystore),
            "FREEFLOAT_TRUSTSTORE": str(truststore),
            "FREEFLOAT_KEYSTORE_PASSWORD": PASSWORD.decode(),
        }
        command = BrokerCommand(
            name="hivemq",
            arguments=(
                "/usr/bin/env",
                *(f"{name}={value}" for name, value in settings.items()),
                str(shutil.which("java")),
                *JAVA,
                f"-Dhivemq.log.folder={self._directory}",
                "-cp",
                f"{PARTS}/classes:{PARTS}/lib/*",
                "Embedded",
                *(str(self._directory / n) for n in ("conf", "data", "extensions")),
            ),
            log=self.log,
            ready="freefloat: listening",
            host=HOST,
            port=self.port,
            certificate=chain[0].public_bytes(Encoding.DER),
            trust_anchors=self._identity.trust_anchors,
            start_timeout_s=START_TIMEOUT_S,
        )
        self._process = await BrokerProcess.start(command)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            await self._process.stop()

    def _stores(self) -> tuple[list[x509.Certificate], Path, Path]:
        """Write the PKCS 12 files that a Java program reads instead of PEM."""
        own = self._identity
        chain = x509.load_pem_x509_certificates(own.certificate.read_bytes())
        key = load_pem_private_key(own.key.read_bytes(), None)
        assert isinstance(key, EllipticCurvePrivateKey)
        keystore = self._directory / "keystore.p12"
        keystore.write_bytes(
            pkcs12.serialize_key_and_certificates(
                b"broker", key, chain[0], chain[1:], BestAvailableEncryption(PASSWORD)
            )
        )
        truststore = self._directory / "truststore.p12"
        anchors = x509.load_pem_x509_certificates(own.trust_anchors.read_bytes())
        trusted = [
            pkcs12.PKCS12Certificate(anchor, b"root %d" % number)
            for number, anchor in enumerate(anchors)
        ]
        truststore.write_bytes(
            pkcs12.serialize_java_truststore(trusted, BestAvailableEncryption(PASSWORD))
        )
        return chain, keystore, truststore
