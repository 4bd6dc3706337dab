"""Write the signatures at the edges of both suites: ``python -m tests.edge``.

Keys and nonces are fixed, so the files come out the same byte for byte on every
machine; a test makes them again and compares. The cases are of the kinds that
Wycheproof tries, made here with plain arithmetic and written in our own form.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from protocol.codes import Suite
from tests.edge import ed25519, p256
from tests.edge.case import Edge
from tools.published_keys import FLEET_ID

DIRECTORY: Final = Path(__file__).parent.parent / "vectors" / "edge"


def generate() -> dict[str, str]:
    """Return every file: name and text."""
    documents = {
        "ed25519.json": _document(Suite.ED25519, ed25519.edges()),
        "p256.json": _document(Suite.P256, p256.edges()),
    }
    return {
        name: json.dumps(document, indent=1) + "\n"
        for name, document in documents.items()
    }


def _document(suite: Suite, edges: Iterable[Edge]) -> dict[str, Any]:
    return {
        "title": f"signatures at the edges of {suite.name}",
        "why": "one form of every key and signature; all receivers judge alike",
        "kind": "signatures",
        "suite": suite.name,
        "fleet_id": FLEET_ID.hex(),
        "cases": [_case(edge) for edge in edges],
    }


def _case(edge: Edge) -> dict[str, Any]:
    case = {
        "name": edge.name,
        "why": edge.why,
        "public": edge.public.hex(),
        "message": edge.message.hex(),
        "signature": edge.signature.hex(),
    }
    if edge.frame is not None:
        case["frame"] = edge.frame.hex()
    return case | {"expected": edge.verdict.value}


def main() -> None:
    """Write the files."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for name, text in generate().items():
        (DIRECTORY / name).write_text(text, encoding="utf-8")
        print(f"{name}: {len(json.loads(text)['cases'])} cases")


if __name__ == "__main__":
    main()
