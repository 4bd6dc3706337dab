"""The routes that everybody reads without a key: GBFS 3.0."""

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import FastAPI, Header, Path, Response

from bridge.api.problems import ProblemError
from bridge.gbfs.publisher import NAMES, Publisher

ROOT: Final = "/gbfs/3.0"

PATHS: Final = frozenset(f"{ROOT}/{name}.json" for name in NAMES)
"""Open to everybody."""

Name = Annotated[str, Path(pattern=f"^({'|'.join(NAMES)})$")]

_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "As GBFS 3.0 has it.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    },
    304: {"description": "The same as the caller has."},
}


def add_gbfs(app: FastAPI, publisher: Publisher) -> None:
    """Add the route to the application."""

    @app.get(
        ROOT + "/{feed}.json",
        response_class=Response,
        responses=_ANSWERS,
    )
    async def get_feed(
        feed: Name,
        if_none_match: Annotated[str | None, Header(max_length=1_000)] = None,
    ) -> Response:
        """Return a feed; it changes once in its time to live."""
        found = await publisher.feed(feed)
        if found is None:
            raise ProblemError(
                HTTPStatus.NOT_FOUND, "no-such-feed", "gbfs.json names those there are"
            )
        headers = {
            "Cache-Control": f"public, max-age={found.left_s}",
            "ETag": found.etag,
            "Access-Control-Allow-Origin": "*",
        }
        known = {tag.strip() for tag in (if_none_match or "").split(",")}
        if known & {found.etag, f"W/{found.etag}", "*"}:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(found.body, headers=headers, media_type="application/json")
