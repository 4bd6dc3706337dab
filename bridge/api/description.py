"""What the OpenAPI document says of every route alike: the key, and problems."""

from typing import Any, Final

from fastapi import FastAPI

from bridge.api.problems import MEDIA_TYPE

_PROBLEM: Final = {
    "type": "object",
    "description": "A problem document (RFC 9457); it repeats no value that came.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "pattern": "^urn:freefloat:problem:[a-z-]+$"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "capability": {
            "type": "string",
            "description": "The kind of order that the vehicle does not understand.",
        },
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "problem"],
                "properties": {
                    "field": {"type": "string"},
                    "in": {"type": "string"},
                    "problem": {"type": "string"},
                    "bound": {"type": "object"},
                },
            },
        },
    },
}

_CONTENT: Final = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}

PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"description": "Refused; the document says why.", "content": _CONTENT},
    "5XX": {"description": "Not possible now.", "content": _CONTENT},
}
"""What every route may answer instead."""


def describe(app: FastAPI, *, open_paths: frozenset[str], has_tokens: bool) -> None:
    """Have the application's document tell of the key and the problems.

    Args:
        app: with all its routes, made with `PROBLEMS` as its responses.
        open_paths: need no key.
        has_tokens: whether a bearer token may stand in the key's place.
    """
    document = app.openapi()
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = _PROBLEM
    components["securitySchemes"] = {
        "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"}
    }
    document["security"] = [{"key": []}]
    if has_tokens:
        components["securitySchemes"]["token"] = {"type": "http", "scheme": "bearer"}
        document["security"].append({"token": []})
    for path in open_paths & set(document["paths"]):
        for operation in document["paths"][path].values():
            operation["security"] = []
