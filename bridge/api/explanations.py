"""The route that explains a command, hop by hop."""

import asyncio
from http import HTTPStatus
from typing import Annotated

from fastapi import FastAPI, Path

from bridge.api import forms
from bridge.api.documents import Document
from bridge.api.problems import ProblemError
from bridge.errors import EvidenceError
from bridge.evidence import Archive
from bridge.explanation import explanation_of
from bridge.rows.evidence import RentalProof
from bridge.rows.trails import find_trail
from bridge.store import Store
from bridge.wire import LOG


def add_explanations(app: FastAPI, store: Store, archive: Archive) -> None:
    """Add the route to the application."""

    @app.get("/v1/commands/{command_id}/explain")
    async def explain_command(
        command_id: Annotated[str, Path(pattern=forms.HEX_ID)],
    ) -> Document:
        """Return a command's way: who asked, what was signed, what the car said.

        `freefloat explain` shows it and checks what is signed in it.
        """
        raw = bytes.fromhex(command_id)
        trail = await store.read(lambda c: find_trail(c, raw))
        if trail is None:
            raise ProblemError(
                HTTPStatus.NOT_FOUND, "unknown-command", "no command has this id"
            )
        proof = RentalProof(
            vehicle_id=trail.record.vehicle_id,
            entries=trail.entries,
            receipt=b"" if trail.receipt is None else trail.receipt.data,
            rotations=trail.rotations,
            commands=(),
            places=(),
        )
        try:
            exhibit = await asyncio.to_thread(archive.exhibit_of, proof)
        except EvidenceError as error:
            LOG.error("= %s", error)
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE, "evidence-incomplete", str(error)
            ) from error
        return explanation_of(trail, exhibit)
