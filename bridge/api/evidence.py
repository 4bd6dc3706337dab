"""The route that proves a rental to a stranger."""

import asyncio
from http import HTTPStatus
from typing import Annotated

from fastapi import FastAPI, Path, Response

from bridge.api import forms
from bridge.api.problems import ProblemError
from bridge.errors import EvidenceError
from bridge.evidence import Archive
from bridge.missing_entries import MISSING_HEADER
from bridge.store import Store
from bridge.wire import LOG


def add_evidence(app: FastAPI, store: Store, archive: Archive) -> None:
    """Add the route to the application."""

    @app.get("/v1/rentals/{rental_id}/evidence", response_class=Response)
    async def get_evidence(
        rental_id: Annotated[str, Path(pattern=forms.HEX_ID)],
    ) -> Response:
        """Return the file by which anybody can check what car and fleet signed.

        `freefloat evidence verify` checks it, with nothing but the fleet's public
        anchors.
        """
        proof = await store.rental_proof(bytes.fromhex(rental_id))
        if proof is None:
            raise ProblemError(
                HTTPStatus.NOT_FOUND,
                "no-evidence",
                "no vehicle has told of a rental with this id, or nothing of it is "
                "receipted yet",
            )
        try:
            data = await asyncio.to_thread(archive.file_of, proof)
        except EvidenceError as error:
            LOG.error("= %s", error)
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE, "evidence-incomplete", str(error)
            ) from error
        name = f"rental-{rental_id}.evidence.json"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        if proof.missing:
            lost = (f"{gap.first}-{gap.last}" for gap in proof.missing)
            headers[MISSING_HEADER] = ", ".join(lost)
        return Response(data, media_type="application/json", headers=headers)
