"""Routes of sinks: how far each is, what it gave up, and beginning again."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Body, FastAPI, Path, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from bridge.api import forms
from bridge.api.documents import Document
from bridge.api.problems import ProblemError
from bridge.instants import rfc3339
from bridge.names import NAME
from bridge.ports import WallClock
from bridge.relay import Relay
from bridge.rows.deliveries import GivenUp, Progress
from bridge.store import Store

PAGE_LIMIT: Final = 200
"""Sinks, and given-up events, on one page."""

POSITION_LIMIT: Final = 2**63 - 1

SinkName = Annotated[str, Path(pattern=NAME)]
Position = Annotated[int, Query(ge=0, le=POSITION_LIMIT)]


class ReplayBody(BaseModel):
    """From where a sink begins again: exactly one of the two."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    position: Annotated[int | None, Field(strict=True, ge=0, le=POSITION_LIMIT)] = None
    """Events behind this position go out again."""
    since: forms.Instant | None = None
    """Events that were stored at or after this time go out again."""

    @model_validator(mode="after")
    def _exactly_one(self) -> "ReplayBody":
        if (self.position is None) is (self.since is None):
            raise ValueError("give position or since, and not both")
        return self


def add_sinks(
    app: FastAPI, store: Store, relays: Sequence[Relay], now: WallClock
) -> None:
    """Add the routes to the application."""
    by_name = {relay.name: relay for relay in relays}

    def found(name: str) -> Relay:
        relay = by_name.get(name)
        if relay is None:
            raise ProblemError(
                HTTPStatus.NOT_FOUND, "unknown-sink", "no sink has this name"
            )
        return relay

    @app.get("/v1/sinks")
    async def list_sinks(
        limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT)] = PAGE_LIMIT,
        after: Annotated[str | None, Query(pattern=NAME)] = None,
    ) -> Document:
        """Return how far every sink is, in the order of their names."""
        names = sorted(name for name in by_name if after is None or name > after)
        page = names[:limit]
        return {
            "sinks": [
                _of_sink(by_name[name], await store.progress(name), now())
                for name in page
            ],
            "next": page[-1] if len(names) > limit else None,
        }

    @app.get("/v1/sinks/{name}")
    async def get_sink(name: SinkName) -> Document:
        """Return how far one sink is."""
        relay = found(name)
        return _of_sink(relay, await store.progress(relay.name), now())

    @app.get("/v1/sinks/{name}/given-up")
    async def list_given_up(
        name: SinkName,
        after: Position = 0,
        limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT)] = 50,
    ) -> Document:
        """List events that the consumer did not want, the oldest first."""
        relay = found(name)
        rows = await store.given_up(relay.name, after=after, limit=limit)
        return {
            "events": [_of_given_up(row) for row in rows],
            "next": rows[-1].position if len(rows) == limit else None,
        }

    @app.post("/v1/sinks/{name}/replay")
    async def replay(name: SinkName, body: Annotated[ReplayBody, Body()]) -> Document:
        """Let a sink begin again; its consumer drops by id what it has."""
        relay = found(name)
        if body.since is not None:
            since_ms = max(round(body.since.timestamp() * 1000), 0)
            position = await store.position_before(since_ms)
        else:
            position = body.position or 0
        progress = await store.progress(relay.name)
        if position > progress.newest:
            problem = f"the newest event has position {progress.newest}"
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "bad-value",
                f"position: {problem}",
                errors=[{"field": "position", "in": "body", "problem": problem}],
            )
        await store.replay(relay.name, relay.work, position)
        relay.wake()
        return _of_sink(relay, await store.progress(relay.name), now())


def _of_sink(relay: Relay, progress: Progress, now_ms: int) -> Document:
    since_ms = progress.waiting_since_ms
    return {
        "name": relay.name,
        "is_served_here": relay.is_serving,
        "breaker": relay.breaker.state.value,
        "last_error": relay.last_error,
        "position": progress.position,
        "newest": progress.newest,
        "oldest": progress.oldest,
        "waiting": progress.waiting,
        "waiting_since": None if since_ms is None else rfc3339(since_ms),
        "waiting_s": 0.0 if since_ms is None else max(now_ms - since_ms, 0) / 1000,
        "given_up": progress.given_up,
        "since_start": {
            "taken": relay.figures.taken,
            "failed_attempts": relay.figures.failed,
            "given_up": relay.figures.set_aside,
        },
    }


def _of_given_up(row: GivenUp) -> Document:
    return {
        "position": row.position,
        "id": row.event_id,
        "vehicle_id": row.vehicle_id,
        "type": row.type,
        "reason": row.reason,
        "given_up": rfc3339(row.given_up_ms),
    }
