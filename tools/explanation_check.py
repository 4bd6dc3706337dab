"""Holding an explanation against the fleet's anchors: offline, and believing nobody.

What is signed in it is checked by `protocol.evidence`; then that the parts belong
together: the result answers these very bytes, the command is the one that is explained,
the receipt covers the result. Rows of the audit trail are checked to be unchanged;
whether they stand in the trail only the trail shows (`freefloat bridge audit`).
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bridge.audit import AuditEntry, AuditRow, is_intact
from protocol.anchors import EvidenceAnchors
from protocol.content import parse_content
from protocol.errors import ProtocolError
from protocol.evidence import Exhibit, build_evidence, prove_apart, verify_evidence
from protocol.frame import Frame, parse_frame
from protocol.hello import Hello
from protocol.identity import VehicleId
from protocol.result import Result
from protocol.signing import request_hash

FORMAT = "freefloat-explanation-1"
"""The revision of the document that this reads."""


class MalformedError(ValueError):
    """The document has not the form that an explanation has."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked."""

    what: str
    """In words."""
    fault: str = ""
    """What does not hold; empty if it does."""


def check(document: Mapping[str, Any], anchors: EvidenceAnchors) -> list[Finding]:
    """Check an explanation and its parts; every fault is a finding, none is raised.

    Args:
        document: as `GET /v1/commands/{id}/explain` answers.
        anchors: what is believed.

    Raises:
        MalformedError: it is no such document.
    """
    try:
        if document["format"] != FORMAT:
            raise MalformedError(f"format {document['format']!r}, this reads {FORMAT}")
        findings = [*_rows(document), *_frames(document, anchors)]
        for part in document["parts"]:
            if "proof" in part:
                findings += check(part, anchors)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, MalformedError):
            raise
        raise MalformedError(f"no explanation: {error}") from None
    return findings


def _rows(document: Mapping[str, Any]) -> list[Finding]:
    findings = []
    for row in document["audit"]:
        entry = AuditEntry(
            *(row["at_ms"], row["who"], row["role"]),
            *(row["what"], row["outcome"], row["asked"]),
        )
        hashes = bytes.fromhex(row["prev_hash"]), bytes.fromhex(row["row_hash"])
        is_whole = is_intact(AuditRow(row["id"], entry, *hashes))
        what = f"audit row {row['id']} says what it said when it was chained"
        findings.append(Finding(what, "" if is_whole else "it was edited"))
    return findings


def _frames(document: Mapping[str, Any], anchors: EvidenceAnchors) -> list[Finding]:
    proof = document["proof"]
    if proof["command"] is None:
        return []
    exhibit = _exhibit(document, proof)
    command = parse_frame(_bytes(proof["command"]))
    at_ms = command.header.wall_ms
    findings = [
        _proved("the fleet signed this command", command, exhibit, anchors, at_ms),
        _fits(
            "the command is the one that is explained",
            command.header.msg_id.hex() == document["command_id"],
        ),
    ]
    if proof["result"] is not None:
        result = parse_frame(_bytes(proof["result"]))
        body = parse_content(result).body
        findings += [
            _proved("the vehicle signed this result", result, exhibit, anchors, at_ms),
            _fits(
                "the result answers these very bytes",
                isinstance(body, Result)
                and body.request_hash == request_hash(command.data),
            ),
        ]
    if proof["hello"] is not None:
        hello = parse_frame(_bytes(proof["hello"]))
        is_hello = isinstance(parse_content(hello).body, Hello)
        findings += [
            _proved("the vehicle signed this hello", hello, exhibit, anchors, at_ms),
            _fits("what settled the command is a hello", is_hello),
        ]
    if proof["receipt"] is not None:
        findings.append(_receipted(proof, exhibit, anchors))
    return findings


def _receipted(
    proof: Mapping[str, Any], exhibit: Exhibit, anchors: EvidenceAnchors
) -> Finding:
    what = "the fleet's receipt confirms the result, in a run without a gap"
    try:
        proved = verify_evidence(build_evidence(exhibit), anchors)
    except ProtocolError as error:
        return Finding(what, str(error))
    is_first = proved.entries[0].frame.data == _bytes(proof["result"] or "")
    return Finding(what, "" if is_first else "the run begins with another entry")


def _proved(
    what: str, frame: Frame, exhibit: Exhibit, anchors: EvidenceAnchors, at_ms: int
) -> Finding:
    try:
        if exhibit.fleet_id != anchors.fleet_id:
            return Finding(what, "it is of another fleet than the anchors")
        prove_apart(frame, replace(exhibit, entries=()), anchors, at_ms=at_ms)
    except ProtocolError as error:
        return Finding(what, str(error))
    return Finding(what)


def _fits(what: str, holds: bool) -> Finding:
    return Finding(what, "" if holds else "it does not")


def _exhibit(document: Mapping[str, Any], proof: Mapping[str, Any]) -> Exhibit:
    return Exhibit(
        fleet_id=bytes.fromhex(document["fleet_id"]),
        vehicle_id=VehicleId.from_text(document["vehicle_id"]),
        issuing_certificate=_bytes(proof["issuing_certificate"]),
        signing_certificate=_bytes(proof["signing_certificate"]),
        bundles=tuple(_bytes(text) for text in proof["bundles"]),
        rotations=tuple(_bytes(text) for text in proof["rotations"]),
        entries=tuple(_bytes(text) for text in proof["entries"]),
        receipt=_bytes(proof["receipt"] or ""),
    )


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
