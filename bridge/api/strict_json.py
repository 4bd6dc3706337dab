"""What a body of JSON has to be, where Python's own reader asks for less.

A name stands once in its object (RFC 8259, section 4; RFC 7493, 2.3): ``{"kind":
"lock", "kind": "unlock"}`` is read by some as the last, by others as the first. A proxy
or a log that reads it otherwise than we would show another order than the one that the
car got. And it is UTF-8 (RFC 8259, 8.1), where Python guesses UTF-16 and UTF-32 too.
"""

import json
from collections.abc import Callable, Coroutine, Iterator
from itertools import islice
from typing import Any, Final

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

REPEATED: Final = "repeated"
"""The type of the error, among those of pydantic."""

REPEATED_LIMIT: Final = 16
"""Names of one body that are told."""


class StrictJson(APIRoute):
    """A route that reads no body with two meanings."""

    def get_route_handler(
        self,
    ) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what handles a request, behind a look at its body."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def handle_strictly(request: Request) -> Response:
            if not is_json(request):
                return await handle(request)
            found = _read(await request.body())
            repeated = list(islice(_repeated_in(found), REPEATED_LIMIT))
            if repeated:
                raise RequestValidationError(
                    [of_repeated("body", *path) for path in repeated]
                )
            return await handle(request)

        return handle_strictly


def is_json(request: Request) -> bool:
    """Return whether a body is said to be JSON."""
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return kind.startswith("application/") and kind.endswith(("/json", "+json"))


def of_repeated(*where: str) -> dict[str, Any]:
    """Return the error of what is given more than once, as pydantic writes its own."""
    return {"type": REPEATED, "loc": where, "msg": "Is given more than once"}


class _Members(list[tuple[str, Any]]):
    """An object as it stands in the text."""


_Place = tuple[Any, str] | None
"""What is around a value, and its name there; None for the whole body."""


def _read(body: bytes) -> object:
    """Return what a body holds; None if it is no JSON, which the next reader says.

    Raises:
        RequestValidationError: it is not UTF-8, or cannot be read for its size.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise _unreadable("the body is not UTF-8") from None
    if "\0" in text:
        # No text of JSON has one: this is UTF-16 or UTF-32.
        raise _unreadable("the body is not UTF-8")
    try:
        return json.loads(text, object_pairs_hook=_Members)
    except json.JSONDecodeError:
        return None
    except RecursionError:
        raise _unreadable("the body is nested too deep") from None
    except ValueError:
        raise _unreadable("the body has a number of too many digits") from None


def _repeated_in(found: object) -> Iterator[tuple[str, ...]]:
    """Yield the path of each name that its object has already."""
    # Without recursion, and a path is made when it is told: a body may be nested deep.
    waiting: list[tuple[_Place, Any]] = [(None, found)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, _Members):
            seen = set[str]()
            for name, inner in value:
                if name in seen:
                    yield _path((place, name))
                seen.add(name)
                waiting.append(((place, name), inner))
        elif isinstance(value, list):
            waiting += (((place, str(at)), one) for at, one in enumerate(value))


def _path(place: _Place) -> tuple[str, ...]:
    parts = []
    while place is not None:
        place, part = place
        parts.append(part)
    return tuple(reversed(parts))


def _unreadable(problem: str) -> RequestValidationError:
    return RequestValidationError(
        [
            {
                "type": "json_invalid",
                "loc": ("body",),
                "msg": problem,
                "ctx": {"told": problem},
            }
        ]
    )
