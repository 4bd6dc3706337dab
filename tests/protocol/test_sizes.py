"""The sizes that the specification prints, from the smallest to the fullest frame."""

from dataclasses import replace
from typing import Any, Final

import pytest

from protocol.codes import Code, FrameClass, Lane
from protocol.content import parse_content
from protocol.frame import CLASS_LIMITS, OVERHEAD, parse_frame
from protocol.hello import (
    CAPABILITIES_LIMIT,
    CONFIGS_LIMIT,
    HELLO,
    LANES_LIMIT,
    OUTCOMES_LIMIT,
    Capability,
    ConfigVersion,
    Hello,
    LaneProgress,
    Outcome,
)
from protocol.layout import Layout
from protocol.receipt import GAPS_LIMIT, RECEIPT, REJECTS_LIMIT, Gap, Receipt, Reject
from protocol.telemetry import SAMPLES_LIMIT, TELEMETRY, Telemetry
from tests.protocol.vector_file import frame_of
from tools.clauses import documents

LINES: Final = "".join(path.read_text("utf-8") for path in documents()).splitlines()


def body_of(name: str) -> Any:
    return parse_content(parse_frame(frame_of(name))).body


HELLO_BODY: Final[Hello] = body_of("hello_full")
RECEIPT_BODY: Final[Receipt] = body_of("receipt_trouble")
SAMPLE: Final = body_of("telem_one").samples[0]

EXTREMES: Final[dict[FrameClass, tuple[Layout[Any], object, object]]] = {
    FrameClass.HELLO: (
        HELLO,
        replace(HELLO_BODY, capabilities=(), lanes=(), outcomes=(), configs=()),
        replace(
            HELLO_BODY,
            capabilities=(Capability(1, 1),) * CAPABILITIES_LIMIT,
            lanes=(LaneProgress(bytes(8), Lane.TRUST, 1),) * LANES_LIMIT,
            outcomes=(Outcome(bytes(16), Code.OK),) * OUTCOMES_LIMIT,
            configs=(ConfigVersion(1, 1),) * CONFIGS_LIMIT,
        ),
    ),
    FrameClass.RECEIPT: (
        RECEIPT,
        replace(RECEIPT_BODY, gaps=(), rejects=()),
        replace(
            RECEIPT_BODY,
            gaps=(Gap(1, 2),) * GAPS_LIMIT,
            rejects=(Reject(1, Code.BAD_PARAM),) * REJECTS_LIMIT,
        ),
    ),
    FrameClass.TELEM: (
        TELEMETRY,
        Telemetry((SAMPLE,)),
        Telemetry((SAMPLE,) * SAMPLES_LIMIT),
    ),
}


@pytest.mark.parametrize("frame_class", EXTREMES, ids=str)
def test_the_printed_sizes_are_those_of_the_least_and_the_fullest_frame(
    frame_class: FrameClass,
) -> None:
    """FF-LIM-01: even the fullest frame of honest lists fits its class."""
    layout, least, fullest = EXTREMES[frame_class]

    low = OVERHEAD + len(layout.build(least))
    high = OVERHEAD + len(layout.build(fullest))

    assert f"| {frame_class.name} | {low} to {high} |" in "\n".join(LINES)
    assert high <= CLASS_LIMITS[frame_class]


@pytest.mark.parametrize(
    ("label", "vector"),
    [("RESULT", "result_ok"), ("PLACE", "place_parked"), ("DEATH", "death_lost")],
)
def test_frames_of_one_size_are_printed_with_it(label: str, vector: str) -> None:
    assert f"| {label} | {len(frame_of(vector))} |" in "\n".join(LINES)
