"""Write docs/asyncapi.json and docs/mqtt.md: ``python -m tools.asyncapi``.

The MQTT side of the protocol for machines, as AsyncAPI 3.0, and the same as tables for
people. Both are made from the tables that the code works by: classes and their limits,
types, topics, how long a broker may keep a frame, and how the link publishes. A test
makes them again and compares.

An AsyncAPI document is written from one side. This one is the bridge's: it receives
what vehicles publish, and sends what they subscribe to.
"""

import inspect
import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

import click

from bridge.intake import RECEIPT_EXPIRY_S
from bridge.steward import EXPIRY_S
from protocol.codes import EventType, FrameClass, FrameType, Opcode, Suite, SyncType
from protocol.command import COMMANDS
from protocol.frame import CLASS_LIMITS, HEADER, HEADER_SIZE, OVERHEAD
from protocol.topic import PREFIX, UP_CLASSES
from transport.link import LinkSettings, MqttLink

PATH: Final = Path(__file__).parent.parent / "docs" / "asyncapi.json"
"""For machines."""
TABLE_PATH: Final = PATH.with_name("mqtt.md")
"""For people."""

Json = dict[str, object]

_VEHICLE: Final = "{vehicleId}"
_BINDING: Final = "0.2.0"
"""Of AsyncAPI's MQTT bindings."""

_SECOND_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class MessageClass:
    """One class of frames on the wire."""

    frame_class: FrameClass
    """Which."""
    summary: str
    """What it is for."""
    types: tuple[IntEnum, ...]
    """What can stand in the header's type field."""
    expiry: str
    """How long a broker may keep it, for people."""
    expiry_s: int | None
    """The same in seconds, at the most; None for no bound of MQTT's."""

    @property
    def name(self) -> str:
        """Return its label in topics."""
        return self.frame_class.label

    @property
    def address(self) -> str:
        """Return its topic, with the vehicle's id left open."""
        direction = "up" if self.frame_class.from_vehicle else "down"
        return f"{PREFIX}/{_VEHICLE}/{direction}/{self.name}"


_LONGEST_S: Final = max(rule.ttl_limit_ms for rule in COMMANDS.values()) // _SECOND_MS

_NONE: Final = "none: the vehicle sends it again until it is receipted"

CLASSES: Final = (
    MessageClass(
        FrameClass.CMD,
        "An order to the vehicle; answered by a result.",
        tuple(Opcode),
        f"what is left of its life, {_LONGEST_S} s at the most; the frame itself says "
        "until when it counts",
        _LONGEST_S,
    ),
    MessageClass(
        FrameClass.RECEIPT,
        "Up to which entry the bridge has stored the vehicle's ledger.",
        (FrameType.RECEIPT,),
        f"{RECEIPT_EXPIRY_S} s",
        RECEIPT_EXPIRY_S,
    ),
    MessageClass(
        FrameClass.SYNC,
        "What keeps a vehicle in step: resends, configurations, challenges, time.",
        tuple(SyncType),
        f"{EXPIRY_S} s",
        EXPIRY_S,
    ),
    MessageClass(
        FrameClass.TRUST,
        "The trust bundle: which keys may sign what.",
        (FrameType.TRUST,),
        f"{EXPIRY_S} s",
        EXPIRY_S,
    ),
    MessageClass(
        FrameClass.RESULT,
        "How a command ended, with the state that was read back.",
        (FrameType.RESULT,),
        _NONE,
        None,
    ),
    MessageClass(
        FrameClass.EVENT,
        "What happened: an entry of the vehicle's ledger.",
        tuple(EventType),
        _NONE,
        None,
    ),
    MessageClass(
        FrameClass.TELEM,
        "Samples, and the places of entries.",
        (FrameType.TELEMETRY, FrameType.PLACE),
        "none; samples may be lost",
        None,
    ),
    MessageClass(
        FrameClass.HELLO,
        "The vehicle is there: its session, state, ledger and capabilities.",
        (FrameType.HELLO,),
        "none",
        None,
    ),
    MessageClass(
        FrameClass.DEATH,
        "The connection is over: the will, or a farewell.",
        (FrameType.DEATH,),
        "none",
        None,
    ),
)
"""Every class, in the order of its number."""


def document() -> Json:
    """Return the AsyncAPI document."""
    publish = inspect.signature(MqttLink.publish).parameters
    qos, retain = publish["qos"].default, publish["retain"].default
    return {
        "asyncapi": "3.0.0",
        "id": "urn:freefloat:mqtt:v1",
        "info": {
            "title": "freefloat over MQTT",
            "version": "1",
            "description": "Signed binary frames between vehicles and the bridge. "
            "docs/protocol.md specifies them; docs/protocol/messages.md has the layout "
            "of every payload. A topic routes and proves nothing: signature, expiry "
            "and order are the frame's own.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/octet-stream",
        "servers": {"fleet": _server()},
        "channels": {one.name: _channel(one) for one in CLASSES},
        "operations": {
            _operation_of(one): _operation(one, qos=qos, retain=retain)
            for one in CLASSES
        },
        "components": {
            "messages": {one.name: _message(one) for one in CLASSES},
            "parameters": {
                "vehicleId": {
                    "description": "26 characters of base32 (A-Z, 2-7): the vehicle's "
                    "id, and the common name of its certificate."
                }
            },
            "securitySchemes": {
                "certificate": {
                    "type": "X509",
                    "description": "TLS 1.3 with a certificate of the fleet's CA. Its "
                    "common name is the client id; the broker lets a vehicle write "
                    "below its own up/ and read below its own down/ only.",
                }
            },
        },
    }


def generate() -> str:
    """Return the text of docs/asyncapi.json."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def generate_table() -> str:
    """Return the text of docs/mqtt.md."""
    lines = [
        "# The protocol over MQTT",
        "",
        "Made by `python -m tools.asyncapi` from the code's tables. Do not edit; a",
        "test compares. For machines the same is [asyncapi.json](asyncapi.json),",
        "AsyncAPI 3.0 from the bridge's side. [protocol.md](protocol.md) specifies",
        "what is in a frame.",
        "",
        "Every payload is one signed binary frame, `application/octet-stream`. Nothing",
        "is retained, everything is published with quality of service 1. TLS 1.3 with",
        "a certificate on both sides; the common name is the client id.",
        "",
        "| topic | from | what | frame, bytes | a broker may keep it |",
        "|---|---|---|---|---|",
    ]
    for one in CLASSES:
        sender = "vehicle" if one.frame_class in UP_CLASSES else "bridge"
        topic = one.address.replace(_VEHICLE, "<vehicle>")
        most = CLASS_LIMITS[one.frame_class]
        lines.append(
            f"| `{topic}` | {sender} | {one.summary} | {OVERHEAD} to {most} | "
            f"{one.expiry} |"
        )
    lines += ["", "## The header", "", "| at | bytes | field |", "|---|---|---|"]
    lines += [f"| {at} | {size} | `{name}` |" for at, size, name in header_fields()]
    lines += [
        "",
        "Then `payload_len` bytes of payload, then the signature; big-endian.",
        "",
        "## Types",
        "",
        "| topic ends with | type |",
        "|---|---|",
    ]
    lines += [f"| `{one.name}` | {', '.join(_words(one.types))} |" for one in CLASSES]
    return "\n".join([*lines, ""])


def header_fields() -> list[tuple[int, int, str]]:
    """Return offset, size and name of every field of the header."""
    found, at = [], 0
    for subcon in HEADER._struct.subcons:  # noqa: SLF001 - the one place that draws it
        size = subcon.sizeof()
        found.append((at, size, str(subcon.name)))
        at += size
    return found


def _server() -> Json:
    keepalive_s = inspect.signature(LinkSettings).parameters["keepalive_s"].default
    return {
        "host": "{broker}:8883",
        "protocol": "secure-mqtt",
        "protocolVersion": "5.0",
        "description": "MQTT 5 where the broker speaks it, 3.1.1 otherwise.",
        "variables": {"broker": {"description": "A name of the broker's certificate."}},
        "security": [{"$ref": "#/components/securitySchemes/certificate"}],
        "bindings": {
            "mqtt": {
                "cleanSession": True,
                "keepAlive": keepalive_s,
                "bindingVersion": _BINDING,
            }
        },
    }


def _channel(one: MessageClass) -> Json:
    return {
        "address": one.address,
        "title": one.name,
        "description": one.summary,
        "parameters": {"vehicleId": {"$ref": "#/components/parameters/vehicleId"}},
        "messages": {one.name: {"$ref": f"#/components/messages/{one.name}"}},
    }


def _operation_of(one: MessageClass) -> str:
    return f"{_action(one)}-{one.name}"


def _action(one: MessageClass) -> str:
    return "receive" if one.frame_class in UP_CLASSES else "send"


def _operation(one: MessageClass, *, qos: int, retain: bool) -> Json:
    binding: Json = {"qos": qos, "retain": retain, "bindingVersion": _BINDING}
    if one.expiry_s is not None:
        binding["messageExpiryInterval"] = one.expiry_s
    found: Json = {
        "action": _action(one),
        "channel": {"$ref": f"#/channels/{one.name}"},
        "summary": one.summary,
        "description": f"Kept by a broker: {one.expiry}.",
        "messages": [{"$ref": f"#/channels/{one.name}/messages/{one.name}"}],
        "bindings": {"mqtt": binding},
    }
    if one.frame_class is FrameClass.CMD:
        result = FrameClass.RESULT.label
        found["reply"] = {
            "channel": {"$ref": f"#/channels/{result}"},
            "messages": [{"$ref": f"#/channels/{result}/messages/{result}"}],
        }
    return found


def _message(one: MessageClass) -> Json:
    return {
        "name": one.name,
        "title": f"{one.frame_class.name} frame",
        "summary": one.summary,
        "contentType": "application/octet-stream",
        "bindings": {"mqtt": {"payloadFormatIndicator": 0, "bindingVersion": _BINDING}},
        "payload": {
            "type": "string",
            "format": "binary",
            "minLength": OVERHEAD,
            "maxLength": CLASS_LIMITS[one.frame_class],
            "description": f"{HEADER_SIZE} bytes of header, the payload, and "
            f"{OVERHEAD - HEADER_SIZE} bytes of signature; big-endian. Lengths are "
            "bytes.",
            "x-class": int(one.frame_class),
            "x-suites": {suite.name: int(suite) for suite in Suite},
            "x-types": {member.name: int(member) for member in one.types},
            "x-header": [
                {"at": at, "bytes": size, "field": name}
                for at, size, name in header_fields()
            ],
        },
    }


def _words(types: Iterable[IntEnum]) -> list[str]:
    return [f"0x{int(member):04X} {member.name}" for member in types]


@click.command()
def main() -> None:
    """Write both documents."""
    PATH.write_text(generate(), encoding="utf-8")
    TABLE_PATH.write_text(generate_table(), encoding="utf-8")
    click.echo(f"wrote {PATH.name} and {TABLE_PATH.name}")


if __name__ == "__main__":
    main()
