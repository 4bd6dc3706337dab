"""The route of what a car said to PING, SNAPSHOT or EXPLAIN, beside its result."""

from http import HTTPStatus

from fastapi import FastAPI

from bridge.api.documents import Document
from bridge.api.forms import HexId
from bridge.api.problems import ProblemError
from bridge.instants import rfc3339
from bridge.rows.diagnoses import ReceivedDiagnosis, find_diagnosis
from bridge.store import Store


def add_diagnoses(app: FastAPI, store: Store) -> None:
    """Add the route to the application."""

    @app.get("/v1/commands/{command_id}/diagnosis")
    async def get_diagnosis(command_id: HexId) -> Document:
        """Return what the car has said to a question so far."""
        record = await store.command(bytes.fromhex(command_id))
        if record is None:
            raise ProblemError(
                HTTPStatus.NOT_FOUND, "unknown-command", "no command has this id"
            )
        parts = await store.read(lambda connection: find_diagnosis(connection, record))
        return {
            "command_id": record.command_id.hex(),
            "vehicle_id": str(record.vehicle_id),
            **of_diagnosis(parts),
        }


def of_diagnosis(parts: list[ReceivedDiagnosis]) -> Document:
    """Return an answer as far as it has come."""
    last = parts[-1] if parts else None
    return {
        "is_complete": last is not None and len(parts) == last.told.parts,
        "kind": None if last is None else last.told.kind.name.lower(),
        "lines": [line for part in parts for line in part.told.lines],
        "signed": None if last is None else rfc3339(last.signed_wall_ms),
        "stored": None if last is None else rfc3339(last.received_ms),
    }
