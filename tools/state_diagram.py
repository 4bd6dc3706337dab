"""The diagram of the rental axis: docs/states.svg, drawn from the car's own table.

Where the boxes stand is chosen by hand here; what they say, their colours and every
arrow come from `gateway.core.table.TABLE` and `gateway.core.appearance`.
"""

from dataclasses import dataclass
from math import hypot
from typing import Final
from xml.sax.saxutils import escape

from gateway.core.table import TABLE
from protocol.codes import Light, RentalMode

WIDTH: Final = 1180
HEIGHT: Final = 640
BOX: Final = (170, 56)
"""Width and height of a mode's box."""

_PLACES: Final = {
    RentalMode.AVAILABLE: (150, 90),
    RentalMode.RESERVED: (680, 90),
    RentalMode.PARKED: (150, 360),
    RentalMode.STOPPED: (680, 360),
    RentalMode.DRIVING: (1070, 360),
    RentalMode.REFUELLING: (875, 570),
}
"""Centres of the boxes."""

_LABEL_PARTS: Final = {
    (RentalMode.STOPPED, RentalMode.AVAILABLE): 0.6,
    (RentalMode.PARKED, RentalMode.AVAILABLE): 0.25,
}
"""How far along an arrow its label stands, where the middle is taken."""

_FILLS: Final = {
    Light.GREEN: "#dcfce7",
    Light.YELLOW: "#fef9c3",
    Light.RED: "#fee2e2",
}
"""Paler than the lamps, so that text is read on them."""

_OPENING: Final = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
    'font-family="Helvetica, Arial, sans-serif" font-size="13">'
)

_ARROW_HEAD: Final = (
    '  <defs><marker id="a" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" '
    'markerHeight="8" orient="auto"><path d="M0 0L10 5L0 10z" fill="#334155"/>'
    "</marker></defs>"
)

_GAP: Final = 13
"""Half the distance between an arrow and the one back."""

_LINE: Final = 15
"""Height of a line of text."""

Point = tuple[float, float]


@dataclass(frozen=True)
class _Arrow:
    begin: Point
    end: Point
    labels: tuple[str, ...]
    at: Point
    """Where the labels stand."""
    anchor: str


def draw(lights: dict[RentalMode, Light]) -> str:
    """Return the SVG.

    Args:
        lights: what the indicator shows in each mode when nothing is wrong.
    """
    pairs = {
        (mode, target): tuple(t.value for t, to in row.items() if to is target)
        for mode, row in TABLE.items()
        for target in row.values()
        # A handover leads back to where it began: it has no arrow, and a cell in the
        # table of docs/states.md.
        if target is not mode
    }
    arrows = [_arrow(*pair, labels, pairs) for pair, labels in pairs.items()]
    return "\n".join(
        (
            _OPENING,
            "  <title>The modes of a car and what leads from one to the next</title>",
            _ARROW_HEAD,
            f'  <rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
            *(_line(arrow) for arrow in arrows),
            *(_labels(arrow) for arrow in arrows),
            *(_box(mode, lights[mode]) for mode in TABLE),
            "</svg>",
            "",
        )
    )


def _arrow(
    mode: RentalMode,
    target: RentalMode,
    labels: tuple[str, ...],
    pairs: dict[tuple[RentalMode, RentalMode], tuple[str, ...]],
) -> _Arrow:
    (x1, y1), (x2, y2) = _PLACES[mode], _PLACES[target]
    length = hypot(x2 - x1, y2 - y1)
    # To the right hand of who goes along the arrow.
    right = (-(y2 - y1) / length, (x2 - x1) / length)
    shift = _GAP if (target, mode) in pairs else 0
    begin = (x1 + right[0] * shift, y1 + right[1] * shift)
    end = (x2 + right[0] * shift, y2 + right[1] * shift)
    begin, end = _leave(begin, end, (x1, y1)), _leave(end, begin, (x2, y2))
    part = _LABEL_PARTS.get((mode, target), 0.5)
    middle = (
        begin[0] + (end[0] - begin[0]) * part,
        begin[1] + (end[1] - begin[1]) * part,
    )
    if abs(right[0]) < 0.3:  # noqa: PLR2004 - lies nearly flat: above or below it
        above = right[1] < 0
        height = _LINE * len(labels)
        at = (middle[0], middle[1] - height + 8 if above else middle[1] + 18)
        return _Arrow(begin, end, labels, at, "middle")
    side = 8 if right[0] > 0 or not shift else -8
    at = (middle[0] + side, middle[1] - _LINE * (len(labels) - 1) / 2 + 4)
    return _Arrow(begin, end, labels, at, "start" if side > 0 else "end")


def _leave(begin: Point, end: Point, centre: Point) -> Point:
    """Return where a line from inside a box crosses its edge."""
    half_w, half_h = BOX[0] / 2 + 2, BOX[1] / 2 + 2
    dx, dy = end[0] - begin[0], end[1] - begin[1]
    steps = []
    if dx:
        edge_x = centre[0] + (half_w if dx > 0 else -half_w)
        steps.append((edge_x - begin[0]) / dx)
    if dy:
        edge_y = centre[1] + (half_h if dy > 0 else -half_h)
        steps.append((edge_y - begin[1]) / dy)
    step = min(steps)
    return (begin[0] + dx * step, begin[1] + dy * step)


def _line(arrow: _Arrow) -> str:
    (x1, y1), (x2, y2) = arrow.begin, arrow.end
    return (
        f'  <line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        'stroke="#334155" stroke-width="1.4" marker-end="url(#a)"/>'
    )


def _labels(arrow: _Arrow) -> str:
    x, y = arrow.at
    return "\n".join(
        f'  <text x="{x:.1f}" y="{y + place * _LINE:.1f}" fill="#334155" '
        f'text-anchor="{arrow.anchor}" stroke="#ffffff" stroke-width="4" '
        f'paint-order="stroke">{escape(label)}</text>'
        for place, label in enumerate(arrow.labels)
    )


def _box(mode: RentalMode, light: Light) -> str:
    (x, y), (width, height) = _PLACES[mode], BOX
    return (
        f'  <rect x="{x - width / 2:g}" y="{y - height / 2:g}" width="{width}" '
        f'height="{height}" rx="10" fill="{_FILLS[light]}" stroke="#334155" '
        f'stroke-width="1.6"/>\n'
        f'  <text x="{x}" y="{y - 3}" text-anchor="middle" font-weight="bold" '
        f'font-size="15" fill="#0f172a">{mode.name}</text>\n'
        f'  <text x="{x}" y="{y + 16}" text-anchor="middle" fill="#475569">'
        f"{light.name.lower()}</text>"
    )
