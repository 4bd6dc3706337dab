"""``freefloat decode``: what the bytes of a frame say, and who signed them.

Input is never trusted: a bad frame is described with its code and makes the exit code
1, and the other frames are shown all the same.
"""

import base64
import binascii
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from certs.fleet import FleetDirectory
from protocol.codes import Code, Suite
from protocol.content import parse_content
from protocol.errors import AuthenticationError, DecodeError, ProtocolError
from protocol.frame import FRAME_LIMIT, HEADER_SIZE, MAGIC, OVERHEAD, VERSION, Frame
from protocol.frame import parse_frame as parse
from protocol.identity import ID_SIZE
from protocol.key_material import RAW_SIZES
from protocol.keyfile import raw_public_key
from protocol.keys import SIGNATURE_SIZE, VerifyKey
from protocol.rendering import fields_of, render_bytes, type_name
from protocol.signing import verify_frame
from tools.console import examples, facts, heading, json_option, print_json
from tools.errors import OperatorError

INPUT_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of one file or of stdin: some 50,000 frames; a capture of more is cut first."""

TEXT_LIMIT: Final = 4 * FRAME_LIMIT
"""Characters of one frame: two hexadecimal digits and up to two separators a byte."""

DUMP_WIDTH: Final = 16
"""Bytes of one line of the hex dump."""

_HEX: Final = re.compile(r"(?:0x)?((?:[0-9A-Fa-f]{2}[\s:]*)+)")
_RAW: Final = MAGIC + bytes([VERSION])
"""How a raw frame begins; 0x01 stands in no text."""

_PRINTABLE: Final = range(0x20, 0x7F)
"""ASCII that a terminal shows as it is."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known about a frame's signature."""

    holds: bool | None
    """None if it was not checked."""
    sentence: str
    """Why, for people."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys under which signatures are checked."""

    fleet_id: bytes | None
    """16 bytes, or None without ``--fleet`` and ``--fleet-id``."""
    key: VerifyKey | None
    """The one key of ``--key``."""
    fleet: FleetDirectory | None
    """Where the others are looked up."""

    def judge(self, frame: Frame) -> Verdict:
        """Check a signature, if there is a key to check it with."""
        if self.fleet_id is None:
            return Verdict(
                None, "not checked: name the --fleet, or --key and --fleet-id"
            )
        try:
            key, owner = self._key_of(frame)
            verify_frame(frame, fleet_id=self.fleet_id, key=key)
        except (AuthenticationError, DecodeError) as error:
            return Verdict(False, f"refused: {error}")
        return Verdict(True, f"holds, by {owner}")

    def _key_of(self, frame: Frame) -> tuple[VerifyKey, str]:
        header = frame.header
        if self.key is not None:
            return self.key, f"key {self.key.key_id.hex()}"
        if self.fleet is None:
            raise AuthenticationError(Code.UNKNOWN_KEY, "no key was given")
        if not header.frame_class.from_vehicle:
            return _trusted_key(self.fleet, header.key_id)
        try:
            record = self.fleet.vehicle_record(header.vehicle_id)
        except FileNotFoundError:
            raise AuthenticationError(
                Code.UNKNOWN_KEY,
                f"vehicle {header.vehicle_id} is not registered in {self.fleet.path}",
            ) from None
        return record.key_named(header.key_id), f"vehicle {header.vehicle_id}"


def _trusted_key(fleet: FleetDirectory, key_id: bytes) -> tuple[VerifyKey, str]:
    bundle = fleet.open_trust_bundle()
    for key in bundle.keys:
        if key.key_id == key_id:
            # Dates and opcodes are for the car to judge; a signature is a signature.
            owner = f"{key.role.name} key of trust bundle {bundle.version}"
            return VerifyKey.load(key.public_key), owner
    raise AuthenticationError(
        Code.UNKNOWN_KEY,
        f"key {key_id.hex()} is not in trust bundle {bundle.version} of {fleet.path}",
    )


@dataclass(frozen=True, slots=True)
class Report:
    """All that is shown about one frame."""

    data: bytes
    """The bytes as they came."""
    frame: Frame | None
    """None if they are no frame."""
    link: dict[str, Any] | None
    """The entry link's fields, of events and results."""
    body: dict[str, Any] | None
    """The payload's fields; None if it cannot be read."""
    error: DecodeError | None
    """Why bytes or payload cannot be read."""
    verdict: Verdict
    """On its signature."""

    @property
    def good(self) -> bool:
        """Whether nothing about this frame is wrong."""
        return self.error is None and self.verdict.holds is not False


def examine(data: bytes, keyring: Keyring) -> Report:
    """Find out all about some bytes; what is wrong with them is in the report."""
    try:
        frame = parse(data)
    except DecodeError as error:
        return Report(data, None, None, None, error, Verdict(None, "no frame"))
    verdict = keyring.judge(frame)
    try:
        content = parse_content(frame)
    except DecodeError as error:
        return Report(data, frame, None, None, error, verdict)
    link = None if content.link is None else fields_of(content.link)
    return Report(data, frame, link, _elided(fields_of(content.body)), None, verdict)


def _elided(fields: dict[str, Any]) -> dict[str, Any]:
    """Replace sealed bytes by their number."""
    if "sealed" in fields:
        fields = fields | {"sealed": f"{len(fields['sealed']) // 2} bytes, sealed"}
    return fields


def header_fields(frame: Frame) -> dict[str, Any]:
    """Return a header as people and programs want it."""
    header = frame.header
    return fields_of(header) | {
        "vehicle_id": str(header.vehicle_id),
        "type": f"0x{header.type:04X}",
        "type_name": type_name(header),
        "payload_len": len(frame.payload),
        "wall_time": _wall(header.wall_ms),
    }


def _wall(wall_ms: int) -> str | None:
    try:
        moment = _EPOCH + timedelta(milliseconds=wall_ms)
    except OverflowError:
        return None
    return moment.isoformat(timespec="milliseconds")


def _print_json(report: Report) -> None:
    error = report.error
    print_json(
        {
            "good": report.good,
            "size": len(report.data),
            "rendering": _rendering(report),
            "error": error and {"code": error.code.name, "detail": error.detail},
            "signature": {
                "holds": report.verdict.holds,
                "detail": report.verdict.sentence,
            },
            "header": report.frame and header_fields(report.frame),
            "link": report.link,
            "body": report.body,
            "hex": report.data.hex(),
        }
    )


def _rendering(report: Report) -> str:
    if not report.data and report.error is not None:
        return f"no frame: {report.error}"
    return render_bytes(report.data)


def _print_text(report: Report) -> None:
    heading(_rendering(report))
    if report.frame is not None:
        facts({"signature": report.verdict.sentence})
        _print_section("header", header_fields(report.frame))
        if report.link is not None:
            _print_section("entry link", report.link)
        if report.body is not None:
            _print_section("payload", report.body)
        if report.error is not None:
            facts({"wrong": str(report.error)})
    _print_bytes(report)
    click.echo()


def _print_bytes(report: Report) -> None:
    """Print a hex dump with offsets; header, payload and signature begin a row each."""
    size = len(report.data)
    if report.frame is None:
        regions = [("bytes", 0, size)]
    else:
        end = size - SIGNATURE_SIZE
        regions = [
            ("header bytes", 0, HEADER_SIZE),
            ("payload bytes", HEADER_SIZE, end),
            ("signature bytes", end, size),
        ]
    for name, start, end in regions:
        if start < end:
            click.echo(f"  {name}")
        for offset in range(start, end, DUMP_WIDTH):
            row = report.data[offset : min(offset + DUMP_WIDTH, end)]
            text = "".join(chr(byte) if byte in _PRINTABLE else "." for byte in row)
            click.echo(f"    {offset:04x}  {row.hex(' '):<47}  {text}")


def _print_section(name: str, fields: dict[str, Any]) -> None:
    click.echo(f"  {name}")
    for label, value in _flat(fields):
        click.echo(f"    {label:<26} {value}")


def _flat(fields: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        label = f"{prefix}{name}"
        match value:
            case dict():
                yield from _flat(value, f"{label}.")
            case list() if value and isinstance(value[0], dict):
                for number, item in enumerate(value):
                    yield from _flat(item, f"{label}[{number}].")
            case list():
                yield label, " ".join(map(str, value)) or "none"
            case None:
                yield label, "not measured"
            case bool():
                yield label, "yes" if value else "no"
            case _:
                yield label, str(value)


def read_frames(data: bytes) -> Iterator[bytes | DecodeError]:
    """Split a file or stdin into frames.

    Raw frames may follow one another; text holds one frame on a line, in hexadecimal or
    base64, and empty lines and those that begin with ``#`` are left out. A line that
    is neither yields the error that says so.
    """
    if data.startswith(_RAW):
        yield from _raw_frames(data)
        return
    try:
        lines = data.decode("ascii").splitlines()
    except UnicodeDecodeError:
        # Neither text nor a frame: one bad frame, so that its bytes are shown.
        yield data[: FRAME_LIMIT + 1]
        return
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if text and not text.startswith("#"):
            yield parse_text(text, where=f"line {number}")


def _raw_frames(data: bytes) -> Iterator[bytes]:
    while data:
        size = OVERHEAD + int.from_bytes(data[10:12], "big")
        if not data.startswith(_RAW) or size > FRAME_LIMIT:
            yield data[: FRAME_LIMIT + 1]
            return
        yield data[:size]
        data = data[size:]


def parse_text(text: str, *, where: str) -> bytes | DecodeError:
    """Read one frame in hexadecimal (spaces and colons allowed) or base64."""
    if len(text) > TEXT_LIMIT:
        return DecodeError(
            Code.BAD_LEN, f"{where} has {len(text)} characters, at most {TEXT_LIMIT}"
        )
    if found := _HEX.fullmatch(text):
        return bytes.fromhex(found[1].replace(":", " "))
    with suppress(binascii.Error, ValueError):
        return base64.b64decode(text, validate=True)
    return DecodeError(
        Code.BAD_PARAM,
        f"{where} is no file, no hexadecimal and no base64: {text[:40]!r}",
    )


def _read_source(source: str) -> Iterator[bytes | DecodeError]:
    if source == "-":
        yield from read_frames(_read(sys.stdin.buffer, "stdin"))
        return
    path = Path(source)
    # A frame in hexadecimal is too long for a path: then it is no file.
    with suppress(OSError, ValueError):
        if path.is_file():
            with path.open("rb") as stream:
                data = _read(stream, source)
            yield from read_frames(data)
            return
    yield parse_text(source, where="the argument")


def _read(stream: BinaryIO, name: str) -> bytes:
    data = stream.read(INPUT_LIMIT + 1)
    if len(data) > INPUT_LIMIT:
        raise OperatorError(
            f"{name} has more than {INPUT_LIMIT // 1024 // 1024} MiB",
            "cut it into smaller parts, for example with head or split",
        )
    return data


def _keyring(key: str | None, fleet: Path | None, fleet_id: str | None) -> Keyring:
    directory = None if fleet is None else FleetDirectory.open(fleet)
    raw_fleet_id = None if directory is None else directory.fleet.fleet_id
    if fleet_id is not None:
        raw_fleet_id = _fixed_hex(fleet_id, ID_SIZE, "--fleet-id")
    verify_key = None if key is None else _public_key(key)
    if directory is None and verify_key is None and raw_fleet_id is not None:
        raise OperatorError(
            "--fleet-id alone names no key",
            "give --key as well, or --fleet DIR instead of both",
        )
    if verify_key is not None and raw_fleet_id is None:
        raise OperatorError(
            "--key needs the fleet id, which is signed and not in the frame",
            "give --fleet DIR, or --fleet-id with the 32 digits of its fleet.json",
        )
    return Keyring(raw_fleet_id, verify_key, directory)


def _public_key(text: str) -> VerifyKey:
    path = Path(text)
    try:
        if not path.is_file():
            # A text of the length of a P-256 key is one, any other Ed25519's.
            is_p256 = len(text) == 2 * RAW_SIZES[Suite.P256]
            suite = Suite.P256 if is_p256 else Suite.ED25519
            return VerifyKey.load(_fixed_hex(text, RAW_SIZES[suite], "--key"))
        loaded = load_pem_public_key(path.read_bytes())
        return VerifyKey.load(raw_public_key(loaded, name=path.name))
    except (ValueError, UnsupportedAlgorithm):
        raise OperatorError(
            f"{text} holds no public key in PEM",
            "give 64 hexadecimal digits (66 for P-256), or a file such as "
            "trust/root-1.pub",
        ) from None
    except ProtocolError as error:
        raise OperatorError(
            f"--key: {error}", "give a sound Ed25519 or P-256 key"
        ) from None


def _fixed_hex(text: str, size: int, option: str) -> bytes:
    with suppress(ValueError):
        data = bytes.fromhex(text)
        if len(data) == size:
            return data
    raise OperatorError(
        f"{option} {text[:80]!r} is not {2 * size} hexadecimal digits",
        "see 'freefloat decode --help' for examples",
    )


@click.command(
    epilog=examples(
        "freefloat decode 464601010100010101010014ca4a...   # hexadecimal",
        "freefloat decode RkYBAQEAAQEBAQAUyko...            # base64",
        "freefloat decode --fleet fleet capture.txt         # a frame a line, verified",
        "mosquitto_sub ... -F %x | freefloat decode         # from a pipe",
        "freefloat decode --json frame.bin | jq .body       # raw bytes, for programs",
        "freefloat decode --key acdcc849... --fleet-id f1ee7000... 46460101...",
    )
)
@click.argument("sources", nargs=-1, metavar="[FRAME|FILE|-]...")
@click.option(
    "--fleet",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Verify with the registry and the trust bundle of this fleet.",
)
@click.option(
    "--key",
    metavar="HEX|FILE",
    help="Verify with this Ed25519 public key.",
)
@click.option(
    "--fleet-id",
    metavar="HEX",
    help="The fleet id that was signed, if there is no --fleet.",
)
@json_option
def decode(
    sources: tuple[str, ...],
    fleet: Path | None,
    key: str | None,
    fleet_id: str | None,
    as_json: bool,
) -> int:
    """Explain the bytes of frames: header, payload, signature.

    FRAME is hexadecimal or base64. A FILE, or stdin, holds one such frame on a line, or
    raw frames one after another. The exit code is 1 if any frame is bad.
    """
    keyring = _keyring(key, fleet, fleet_id)
    show: Callable[[Report], None] = _print_json if as_json else _print_text
    bad = count = 0
    for source in sources or ("-",):
        for data in _read_source(source):
            if isinstance(data, DecodeError):
                report = Report(b"", None, None, None, data, Verdict(None, "no frame"))
            else:
                report = examine(data, keyring)
            show(report)
            bad += not report.good
            count += 1
    if not count:
        raise OperatorError(
            "there is no frame in the input", "see 'freefloat decode --help'"
        )
    if bad:
        raise OperatorError(
            f"{bad} of {count} frames cannot be believed; the reason stands with each",
            "give the whole frame, unchanged; docs/protocol.md says how it is built",
        )
    return 0
