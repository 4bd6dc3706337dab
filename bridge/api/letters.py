"""Routes of dead letters: what was received and not believed, and judging it anew."""

from http import HTTPStatus
from typing import Annotated, Final, Protocol

from fastapi import FastAPI, Path, Query

from bridge.api.documents import Document, of_letter
from bridge.api.problems import ProblemError
from bridge.store import Store

PAGE_LIMIT: Final = 100
"""Letters on one page: a letter has up to 6 KB of base64."""

LetterId = Annotated[int, Path(ge=1, le=2**63 - 1)]


class Judge(Protocol):
    """Asks the rules again."""

    async def judge(self, letter_id: int) -> str | None:
        """Return what became of a letter, or None if there is none."""


def add_letters(app: FastAPI, store: Store, judge: Judge) -> None:
    """Add the routes to the application."""

    @app.get("/v1/dead-letters")
    async def list_letters(
        limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT)] = 50,
        before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
    ) -> Document:
        """List what was received and not believed, the newest first."""
        found = await store.dead_letters(before=before, limit=limit)
        return {
            "letters": [of_letter(letter) for letter in found],
            "next": found[-1].letter_id if len(found) == limit else None,
        }

    @app.post("/v1/dead-letters/{letter_id}/judge")
    async def judge_letter(letter_id: LetterId) -> Document:
        """Judge a letter anew: the same rules, today's registry and program."""
        outcome = await judge.judge(letter_id)
        if outcome is None:
            raise ProblemError(
                HTTPStatus.NOT_FOUND, "unknown-letter", "no dead letter has this id"
            )
        kept = await store.dead_letter(letter_id)
        return {"id": letter_id, "is_kept": kept is not None, "outcome": outcome}
