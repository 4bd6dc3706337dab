"""docs/asyncapi.json and docs/mqtt.md say what the code does, as AsyncAPI 3.0."""

import copy
import json
from collections.abc import Callable
from typing import Any, Final

from protocol.codes import EventType, FrameClass, Opcode, SyncType
from protocol.frame import CLASS_LIMITS, HEADER_SIZE, OVERHEAD
from protocol.identity import VehicleId
from protocol.topic import topic_of
from tests.published import mistakes_in
from tools.asyncapi import (
    CLASSES,
    PATH,
    TABLE_PATH,
    generate,
    generate_table,
    header_fields,
)

VEHICLE: Final = VehicleId(bytes(range(16)))
SCHEMA: Final = "asyncapi-3.0/asyncapi"


def written() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(PATH.read_text())
    return found


def test_the_documents_are_what_the_code_makes() -> None:
    assert PATH.read_text() == generate(), "run python -m tools.asyncapi"
    assert TABLE_PATH.read_text() == generate_table(), "run python -m tools.asyncapi"


def test_the_document_is_valid_asyncapi() -> None:
    assert mistakes_in(written(), SCHEMA) == []


def test_every_class_has_the_topic_that_the_code_publishes_to() -> None:
    """FF-ADR-04, FF-ADR-05: the label of its class, up or down."""
    channels = written()["channels"]

    told = {
        channel["address"].replace("{vehicleId}", str(VEHICLE))
        for channel in channels.values()
    }
    assert told == {topic_of(VEHICLE, frame_class) for frame_class in FrameClass}
    assert [one.frame_class for one in CLASSES] == sorted(FrameClass)


def test_who_sends_what_is_the_direction_of_its_class() -> None:
    """The bridge receives what vehicles sign, and sends the rest; FF-ADR-10, 13."""
    for name, operation in written()["operations"].items():
        frame_class = FrameClass[name.rpartition("-")[2].upper()]
        assert operation["action"] == (
            "receive" if frame_class.from_vehicle else "send"
        )
        binding = operation["bindings"]["mqtt"]
        assert (binding["qos"], binding["retain"]) == (1, False)
        assert ("messageExpiryInterval" in binding) is not frame_class.from_vehicle


def test_every_type_of_the_code_is_in_its_message() -> None:
    messages = written()["components"]["messages"]
    for name, space in (("cmd", Opcode), ("event", EventType), ("sync", SyncType)):
        told = messages[name]["payload"]["x-types"]
        assert told == {member.name: int(member) for member in space}
    for frame_class in FrameClass:
        payload = messages[frame_class.label]["payload"]
        assert payload["x-class"] == int(frame_class)
        assert payload["minLength"] == OVERHEAD
        assert payload["maxLength"] == CLASS_LIMITS[frame_class]


def test_the_header_is_described_without_a_gap() -> None:
    at = 0
    for offset, size, _name in header_fields():
        assert offset == at
        at += size
    assert at == HEADER_SIZE


def put(value: object, *path: str) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for part in path[:-1]:
            document = document[part]
        document[path[-1]] = value

    return change


SPOILS: Final = (
    put("2.6.0", "asyncapi"),
    put({}, "info"),
    put("listen", "operations", "receive-hello", "action"),
    put(3, "operations", "receive-hello", "bindings", "mqtt", "qos"),
    put("no", "operations", "send-cmd", "bindings", "mqtt", "retain"),
    put({"type": "badge"}, "components", "securitySchemes", "certificate"),
    put({"$ref": 7}, "operations", "send-cmd", "channel"),
    put([], "channels", "cmd", "messages"),
    put({"protocol": "secure-mqtt"}, "servers", "fleet"),
)


def test_every_planted_mistake_is_found() -> None:
    for number, spoil in enumerate(SPOILS):
        spoiled = copy.deepcopy(written())
        spoil(spoiled)
        assert mistakes_in(spoiled, SCHEMA), number
