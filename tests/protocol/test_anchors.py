"""The public file by which strangers check a fleet's proofs (FF-EVI-01)."""

import json
from typing import Any

import pytest

from protocol.anchors import build_anchors, parse_anchors
from protocol.errors import DecodeError
from tests.protocol.court import Court


def test_anchors_are_read_as_they_were_built(court: Court) -> None:
    """FF-EVI-01."""
    assert parse_anchors(build_anchors(court.anchors)) == court.anchors


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": 0},
        {"threshold": 4},
        {"trust_roots": ["00" * 32]},
        {"trust_roots": ["01" + "00" * 31] * 2, "threshold": 1},
        {"trust_roots": ["xyz"], "threshold": 1},
        {"root_certificates": ["no PEM"]},
        {"fleet_id": "00"},
        {"format": 2},
        {"more": 1},
    ],
    ids=str,
)
def test_anchors_that_nobody_should_trust_are_refused(
    court: Court, changes: dict[str, Any]
) -> None:
    document = json.loads(build_anchors(court.anchors)) | changes
    with pytest.raises(DecodeError):
        parse_anchors(json.dumps(document).encode())
