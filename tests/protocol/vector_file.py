"""The vectors as they lie on disk: what another implementation would read."""

import json
from pathlib import Path
from typing import Any, Final

from tools.vectors import DIRECTORY

FILES: Final[tuple[Path, ...]] = tuple(sorted(DIRECTORY.glob("*.json")))


def load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


VECTORS: Final = {path.stem: load(path) for path in FILES}
FRAMES: Final = {n: v for n, v in VECTORS.items() if v["kind"] == "frame"}
SUCCESSIONS: Final = [n for n, v in VECTORS.items() if v["kind"] == "succession"]
ACCEPTED: Final = {
    n: v for n, v in FRAMES.items() if v["expected"]["result"] != "refuse"
}
REFUSED: Final = {
    n: v for n, v in FRAMES.items() if v["expected"]["result"] == "refuse"
}


def frame_of(name: str) -> bytes:
    return bytes.fromhex(VECTORS[name]["frame"])
