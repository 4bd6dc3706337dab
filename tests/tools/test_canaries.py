"""After a whole rental no secret lies anywhere but in its own file (K2, K1, H6)."""

import ast
import base64
import hashlib
import json
import logging
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from firmware_emulator.customer import Customer
from firmware_emulator.reader import Card
from firmware_emulator.rental_script import rental_steps
from firmware_emulator.script import play
from firmware_emulator.vehicle import EmulatedVehicle
from gateway.core.prompts import PromptKey
from protocol.fleet import VehiclePart
from tests.tools.test_rental_over_brokers import (
    SHORT,
    nearly_empty_car,
    online,
    order,
    report_of,
)
from tools import published_keys
from tools.rig import Rig, open_rig
from tools.structured_log import StructuredFormatter

ROOT: Final = Path(__file__).parent.parent.parent
PRODUCT: Final = [
    "protocol",
    "keystore",
    "transport",
    "gateway",
    "firmware_emulator",
    "bridge",
    "certs",
]

PIN: Final = "86420975"
FUEL_PIN: Final = "97531864"
"""Eight digits: four are found by chance in any megabyte of hexadecimal."""
CARD: Final = Card(bytes.fromhex("04a1b2c3d4e5f6"))

MAKES_A_KEY: Final = {
    "from_seed",
    "from_private_bytes",
    "derive_private_key",
    "load_pem_private_key",
    "load_der_private_key",
}


def _forms(secret: bytes) -> set[bytes]:
    """Return how a secret could be written: raw, hex, and base64 at every offset."""
    forms = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    for offset in range(3):
        text = base64.b64encode(bytes(offset) + secret)
        # The characters at both ends depend on what is beside the secret.
        whole = text[4 if offset else 0 : -4]
        forms |= {whole, whole.translate(bytes.maketrans(b"+/", b"-_"))}
    return forms


def _private_number(pem: bytes) -> bytes:
    """Return the 32 bytes of a key's secret (RFC 5958, RFC 5915)."""
    der = load_pem_private_key(pem, password=None).private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
    )
    start = der.index(b"\x04\x20") + 2
    return der[start : start + 32]


def _pin_forms(pin: str) -> set[bytes]:
    raw = pin.encode()
    forms = {raw, base64.b64encode(raw)[:-4], raw.hex().encode()}
    for name in ("md5", "sha1", "sha256"):
        # A hash of eight digits is undone in a second.
        digest = hashlib.new(name, raw).digest()
        forms |= {digest, digest.hex().encode()}
    return forms


def _leaks(rig: Rig, log: str) -> Iterator[str]:
    files = {p: p.read_bytes() for p in rig.directory.rglob("*") if p.is_file()}
    files[Path("the log")] = log.encode()
    keys = {p: _private_number(d) for p, d in files.items() if p.suffix == ".key"}
    canaries = [
        (str(path.name), _forms(secret), secret) for path, secret in keys.items()
    ]
    canaries.append(("the API key", {rig.api_key.encode()}, b""))
    canaries += [("a PIN", _pin_forms(pin), b"") for pin in (PIN, FUEL_PIN)]
    uid = CARD.uid
    forms = {uid, uid.hex().encode(), uid.hex().upper().encode()}
    canaries.append(("a card", forms, b""))
    assert len(keys) >= 10
    for name, forms, secret in canaries:
        for path, data in files.items():
            is_own = (secret and keys.get(path) == secret) or (
                name == "the API key" and path == rig.api_key_file
            )
            if not is_own and any(form in data for form in forms):
                yield f"{name} in {path}"


def _place_forms(car: EmulatedVehicle) -> set[bytes]:
    """Return how the car's place could be written: four decimals are eleven metres."""
    position = car.devices.positioning.fix()
    assert position is not None
    forms = set()
    for number in (position.latitude_e7, position.longitude_e7):
        degrees = f"{number / 10_000_000:.7f}"
        forms |= {degrees[:-3].encode(), str(number).encode()}
    return forms


def _structured(records: list[logging.LogRecord]) -> str:
    """Return the log as JSON, each line of which can be read by itself."""
    lines = [StructuredFormatter().format(record) for record in records]
    read = [json.loads(line) for line in lines]
    assert all({"time", "level", "event", "message"} <= line.keys() for line in read)
    assert sum("msg_id" in line and "car" in line for line in read) > 20
    return "\n".join(lines)


@pytest.mark.broker
@pytest.mark.timeout(180)
async def test_no_key_and_no_pin_is_in_any_file_or_log_after_a_rental(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """K2, K25, H6, FF-SEC-03: fleet, broker, bridge, car, events, all that was said."""
    caplog.set_level(logging.DEBUG)
    places: set[bytes] = set()
    async with (
        open_rig(tmp_path / "rig", cars=[nearly_empty_car], broker="nats") as rig,
        aiohttp.ClientSession(
            rig.bridge.api_url, headers={"X-Api-Key": rig.api_key}
        ) as api,
    ):
        [car] = rig.cars
        await online(api, car)
        rental_id = secrets.token_hex(16)
        await order(
            api,
            car,
            kind="reserve",
            rental_id=rental_id,
            hold_s=900,
            cards=[CARD.uid.hex()],
            pin=PIN,
            fuel_card_pin=FUEL_PIN,
        )
        customer = Customer(car.devices, CARD, pin=PIN)
        shown: set[PromptKey] = set()
        async for _ in play(rental_steps(SHORT), customer):
            shown |= {past.prompt.key for past in car.devices.display.history}
            places |= _place_forms(car)
        await report_of(api, rental_id)
        during = list(_leaks(rig, caplog.text))
    after = list(_leaks(rig, caplog.text))
    structured = _structured(caplog.records)

    assert during == []
    assert after == []
    assert list(_leaks(rig, structured)) == []
    assert len(places) >= 4
    for text in (caplog.text, structured):
        assert [place for place in places if place in text.encode()] == []
    # Both PINs were in use, and there was a log.
    assert {PromptKey.MAY_START, PromptKey.FUEL_CARD_PIN} <= shown
    assert "RENTAL_ENDED" in caplog.text


def test_the_canaries_are_found_where_they_are() -> None:
    # Else the test above would show nothing.
    secret = bytes(range(100, 132))
    for text in (
        secret,
        b"key=" + secret.hex().encode(),
        base64.b64encode(secret),
        base64.b64encode(b"a" + secret + b"b"),
        base64.urlsafe_b64encode(b"ab" + secret),
    ):
        assert any(form in b"{" + text + b"}" for form in _forms(secret)), text
    assert any(form in b"pin 86420975." for form in _pin_forms(PIN))


@pytest.mark.broker
@pytest.mark.timeout(120)
async def test_no_two_cars_share_a_key_and_none_has_a_published_one(
    tmp_path: Path,
) -> None:
    """K1: the cars as they run, each with a signing, a sealing and a TLS key."""
    public: list[bytes] = []
    async with open_rig(tmp_path / "rig", cars=5, broker="nats") as rig:
        for car in rig.cars:
            directory = rig.fleet.vehicle_directory(car.vehicle_id)
            for part in VehiclePart:
                data = (directory / part).read_bytes()
                if directory.joinpath(part).suffix == ".key":
                    key = load_pem_private_key(data, password=None).public_key()
                    public.append(
                        key.public_bytes(
                            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
                        )
                    )
            leaf = x509.load_pem_x509_certificate(
                (directory / VehiclePart.TLS_CERTIFICATE).read_bytes()
            )
            assert (
                leaf.public_key().public_bytes(
                    Encoding.DER, PublicFormat.SubjectPublicKeyInfo
                )
                in public
            )

    assert len(set(public)) == len(public) == 3 * 5
    published = {
        value.key.verify_key.raw
        for value in vars(published_keys).values()
        if isinstance(value, published_keys.TestKey)
    }
    assert len(published) >= 7
    assert not any(raw in der for raw in published for der in public)


def test_no_private_key_is_written_into_the_product() -> None:
    """K1: no key in a source, and none made of a constant."""
    found = []
    for package in PRODUCT:
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            if "published_keys" in text or "PRIVATE KEY-----\n" in text:
                found.append(f"{path.name}: names one")
            found += [
                f"{path.name}:{node.lineno}"
                for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.Call)
                and getattr(node.func, "attr", getattr(node.func, "id", ""))
                in MAKES_A_KEY
                and any(_is_constant(argument) for argument in node.args)
            ]

    assert found == []


def _is_constant(node: ast.expr) -> bool:
    return all(
        isinstance(part, ast.Constant | ast.BinOp | ast.operator)
        for part in ast.walk(node)
    )
