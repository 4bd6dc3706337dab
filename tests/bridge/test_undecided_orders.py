"""What who orders is told while PostgreSQL fails: what is known, and in time (row 26).

"Nothing was sent" is said only where nothing was and nothing will be.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
import pytest

from protocol.codes import FrameClass
from tests.bridge.car import RENTAL
from tests.bridge.memory_broker import MemoryLink
from tests.bridge.test_store_outage import (
    IN_TIME_S,
    SLOW_S,
    UNAVAILABLE,
    UNLOCK,
    Place,
    place,
    server,
    timed,
)

__all__ = ["place", "server"]

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]

UNKNOWN: Final = (503, "urn:freefloat:problem:outcome-unknown")

COMPOUND: Final = {"kind": "unlock_and_enable", "rental_id": RENTAL.hex()}


@contextmanager
def slow_orders(place: Place, *, at_commit: bool) -> Iterator[None]:
    """Let each order take five seconds, in its statement or at its commit."""
    place.execute(
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN PERFORM pg_sleep({SLOW_S}); RETURN NEW; END $$"
    )
    when = (
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON commands "
        "DEFERRABLE INITIALLY DEFERRED"
        if at_commit
        else "CREATE TRIGGER slow BEFORE INSERT ON commands"
    )
    place.execute(f"{when} FOR EACH ROW EXECUTE FUNCTION slowly()")
    try:
        yield
    finally:
        place.execute("DROP TRIGGER slow ON commands")


async def given(place: Place, key: str) -> tuple[int, str, str, bool]:
    """Order; return what is answered, whose id it names, and if it was a repetition."""
    running = place.running
    url = f"{running.bridge.api_url}/v1/vehicles/{running.car.id}/commands"
    headers = {"Idempotency-Key": key}
    async with running.client.post(url, json=UNLOCK, headers=headers) as answer:
        body = await answer.json(content_type=None)
        name = answer.headers.get("Location", "").rpartition("/")[2]
        is_repeated = "Idempotency-Replayed" in answer.headers
        return answer.status, str(body.get("type", "")), name, is_repeated


async def test_an_order_that_hangs_before_its_commit_is_undone_and_said_to_be(
    place: Place,
) -> None:
    """Row 26, I-11: who was told that nothing was sent sees no door open later."""
    with slow_orders(place, at_commit=False):
        took_s, (status, kind, _, _) = await timed(given(place, "a"))
        # By then what hung has come through, and what was to be swept was.
        await asyncio.sleep(SLOW_S + 1)
    stored = await place.running.bridge.store.open_commands()

    assert (status, kind) == UNAVAILABLE
    assert took_s < IN_TIME_S
    assert stored == []
    assert place.running.broker.sent_of(FrameClass.CMD) == []
    assert (await given(place, "a"))[0] == 202


async def test_an_order_that_hangs_at_its_commit_is_told_to_be_undecided(
    place: Place,
) -> None:
    """Row 26, I-11, L10: unknown is not failed; its key finds what became of it."""
    with slow_orders(place, at_commit=True):
        took_s, first = await timed(given(place, "a"))
        second = await given(place, "b")
        await asyncio.sleep(SLOW_S + 1)
    again = await given(place, "a")
    sent = place.running.commands()

    assert first[:2] == UNKNOWN
    assert took_s < IN_TIME_S
    assert second[:2] == UNAVAILABLE, "nobody queues up behind what hangs"
    assert again == (202, "", first[2], True)
    assert len(sent) == 1


async def test_an_order_whose_commit_loses_its_server_is_told_to_be_undecided(
    place: Place,
) -> None:
    """Row 26, L10: the server may have it although nobody heard so."""
    with slow_orders(place, at_commit=True):
        asked = asyncio.create_task(given(place, "a"))
        await asyncio.sleep(SLOW_S / 4)
        place.proxy.cut()
        first = await asked
        await asyncio.sleep(SLOW_S + 1)
    again = await given(place, "a")

    assert first[:2] == UNKNOWN
    assert again == (202, "", first[2], True)
    assert len(place.running.commands()) == 1


async def test_what_else_waits_for_a_lock_is_undone_and_said_to_be(
    place: Place,
) -> None:
    """Row 26: a person at a keyboard is told in time too."""
    running = place.running
    car = str(running.car.id)
    database = place.server.url(place.url.rsplit("/", 1)[1])
    locked = await psycopg.AsyncConnection.connect(database)
    async with locked:
        await locked.execute("LOCK TABLE approvals, configurations IN EXCLUSIVE MODE")
        order = {"kind": "lock", "rental_id": None}
        took_s, asked = await timed(
            running.post("/v1/approvals", json={"vehicle_ids": [car], "order": order})
        )
    path = f"/v1/vehicles/{car}/configurations/policy"
    await place.becomes(ready=True)
    async with await psycopg.AsyncConnection.connect(database) as locked:
        await locked.execute("LOCK TABLE approvals, configurations IN EXCLUSIVE MODE")
        longer_s, wanted = await timed(running.put(path, data=b"x"))
    await place.becomes(ready=True)
    _, approvals = await running.get("/v1/approvals")
    _, configurations = await running.get(path.rpartition("/")[0])

    assert [(status, found["type"]) for status, found in (asked, wanted)] == [
        UNAVAILABLE
    ] * 2
    assert max(took_s, longer_s) < IN_TIME_S
    assert approvals["approvals"] == configurations["configurations"] == []


@pytest.mark.parametrize("body", [UNLOCK, COMPOUND])
async def test_what_was_sent_before_the_store_was_lost_is_never_said_to_be_unsent(
    place: Place, body: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 26, I-11: whoever read that nothing was sent would order it once more."""
    running = place.running
    publish = MemoryLink.publish

    async def then_lose_the_store(
        self: MemoryLink, topic: str, payload: bytes, *, expiry_s: int | None = None
    ) -> None:
        await publish(self, topic, payload, expiry_s=expiry_s)
        if topic.endswith("/cmd"):
            await asyncio.to_thread(place.server.kill)

    monkeypatch.setattr(MemoryLink, "publish", then_lose_the_store)
    status, answer = await running.order(body, params={"wait_s": "5"})

    assert len(running.commands()) == 1
    if body is COMPOUND:
        assert (status, answer["type"]) == UNKNOWN
        assert "nothing was sent" not in answer["detail"]
    else:
        assert (status, answer["state"]) == (202, "published")
