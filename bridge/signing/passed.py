"""By what a frame passed the second person, and how the signer's log tells it.

What is told here is all that a signer remembers of it over a restart.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from protocol.codes import ConfigKind
from protocol.identity import VehicleId


@dataclass(frozen=True, slots=True)
class Offered:
    """The configuration that a car was offered last, of one kind."""

    kind: ConfigKind
    """What it is about."""
    sha256: bytes
    """32 bytes."""
    decided_ms: int
    """A consent that was given until then counts no more for this car and kind; UTC
    ms, by the clock of who gave the last one."""


@dataclass(frozen=True, slots=True)
class Passed:
    """What a frame passed by."""

    is_outside: bool
    """Whether it is outside a rental's flow and nobody consented: it is counted."""
    approval_id: bytes = b""
    """The approval that was consented to; empty for none."""
    approver: str = ""
    """Who consented; empty for nobody."""
    offered: Offered | None = None
    """What it announces, if it is an offer of a configuration."""


def facts_of(passed: Passed) -> dict[str, int | str]:
    """Return what an entry of the log says of it, beside the frame."""
    told: dict[str, int | str] = {}
    if passed.is_outside:
        told["outside"] = 1
    if passed.approval_id:
        told["approval"] = passed.approval_id.hex()
        told["approver"] = passed.approver
    if passed.offered is not None:
        told["configuration"] = int(passed.offered.kind)
        told["sha256"] = passed.offered.sha256.hex()
        told["decided_ms"] = passed.offered.decided_ms
    return told


def passed_of(facts: Mapping[str, int | str]) -> tuple[VehicleId, Passed] | None:
    """Return what an entry says of a vehicle; None if nothing that is remembered."""
    is_offer = "configuration" in facts
    if facts["class"] != "cmd" and not is_offer:
        return None
    return VehicleId.from_text(str(facts["vehicle"])), Passed(
        is_outside=facts.get("outside") == 1,
        approval_id=bytes.fromhex(str(facts.get("approval", ""))),
        approver=str(facts.get("approver", "")),
        offered=Offered(
            ConfigKind(int(facts["configuration"])),
            bytes.fromhex(str(facts["sha256"])),
            int(facts["decided_ms"]),
        )
        if is_offer
        else None,
    )
