"""Checks documents against schemas that others published (tests/schemas/README.md)."""

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

from jsonschema import FormatChecker
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for

SCHEMAS: Final = Path(__file__).parent / "schemas"


def mistakes_in(document: Any, schema: str, definition: str = "") -> list[str]:
    """Return what a document does against a schema, such as ``gbfs-3.0/gbfs``.

    Args:
        document: as JSON.
        schema: a file below tests/schemas, without ``.json``.
        definition: one of its ``$defs`` instead of the whole.
    """
    return [
        f"{error.json_path}: {error.message}"[:500]
        for error in _validator(schema, definition).iter_errors(document)
    ]


@cache
def _validator(schema: str, definition: str) -> Validator:
    found: dict[str, Any] = json.loads((SCHEMAS / f"{schema}.json").read_text())
    if definition:
        found |= {"$ref": f"#/$defs/{definition}"}
    kind = validator_for(found)
    kind.check_schema(found)
    return kind(found, format_checker=FormatChecker())
