"""A fleet service that repeats, contradicts itself or floods (fault row 33)."""

import asyncio
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from bridge.api.keys import Role
from bridge.settings import RateSettings
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass, Opcode
from tests.bridge.car import RENTAL, frame_of
from tests.bridge.running import Json, Running
from tests.bridge.test_roles import KEY, bridge_with_roles

pytestmark = pytest.mark.broker

IN_RENTAL: Json = {"rental_id": RENTAL.hex()}


class Caller:
    """One caller of the API that keeps its connections."""

    def __init__(self, running: Running, client: aiohttp.ClientSession) -> None:
        self._url = f"{running.bridge.api_url}/v1/vehicles/{running.car.id}/commands"
        self._client = client

    async def order(self, kind: str, key: str | None = None) -> tuple[int, Json]:
        body = {"kind": kind, **({} if kind == "ping" else IN_RENTAL)}
        headers = {} if key is None else {"Idempotency-Key": key}
        async with self._client.post(self._url, json=body, headers=headers) as answer:
            if answer.status == 429:
                assert int(answer.headers["Retry-After"]) >= 1
            return answer.status, await answer.json(content_type=None)


def client_of(role: Role) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        headers={"X-Api-Key": KEY[role]}, connector=aiohttp.TCPConnector(limit=8)
    )


def opcodes(running: Running) -> list[int]:
    return [frame_of(data).header.type for data in running.commands()]


async def test_what_is_ordered_many_times_at_once_is_one_command(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    """Fault row 33, L10: one command, for one order and for two in one."""
    async with bridge_with_roles(fleet, tmp_path) as running:
        await running.say(FrameClass.HELLO, running.car.hello())
        async with client_of(Role.SERVICE) as client:
            caller = Caller(running, client)
            for kind in ("unlock", "lock_and_disable"):
                answers = await asyncio.gather(
                    *(caller.order(kind, f"tap-{kind}") for _ in range(20))
                )
                assert {status for status, _ in answers} == {202}
                assert len({answer["id"] for _, answer in answers}) == 1

        assert opcodes(running) == [Opcode.UNLOCK, Opcode.LOCK]


async def test_orders_that_contradict_one_another_are_refused_or_in_order(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    """Fault row 33, I-8: one key has one meaning; else the newest order counts."""
    async with bridge_with_roles(fleet, tmp_path) as running:
        await running.say(FrameClass.HELLO, running.car.hello())
        async with client_of(Role.SERVICE) as client:
            caller = Caller(running, client)
            kinds = ["unlock", "lock", "unlock", "lock"]
            same_key = [await caller.order(kind, "tap") for kind in kinds[:2]]
            for kind in kinds[1:]:
                await caller.order(kind)

        assert [status for status, _ in same_key] == [202, 409]
        assert same_key[1][1]["type"].endswith("idempotency-key-reused")
        headers = [frame_of(data).header for data in running.commands()]
        # In one lane by rising numbers: the car does none that is older than another.
        assert [Opcode(header.type).name.lower() for header in headers] == kinds
        assert len({header.lane for header in headers}) == 1
        seqs = [header.seq for header in headers]
        assert seqs == sorted(set(seqs))


async def test_a_flood_is_cut_to_its_rate_and_harms_no_other_caller(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    """Fault row 33, K28, I-31: ten thousand, refused at once and without the store."""
    flood, cap = 10_000, 60
    rates = RateSettings(calls=100_000, person_orders=cap)
    async with bridge_with_roles(fleet, tmp_path, rates=rates) as running:
        await running.say(FrameClass.HELLO, running.car.hello())
        async with client_of(Role.OPERATOR) as one, client_of(Role.SERVICE) as other:
            wild, good = Caller(running, one), Caller(running, other)
            flooding = [asyncio.create_task(wild.order("ping")) for _ in range(flood)]
            beside = [await good.order("unlock") for _ in range(5)]
            answers = await asyncio.gather(*flooding)

        assert Counter(status for status, _ in answers) == {202: cap, 429: flood - cap}
        assert [status for status, _ in beside] == [202] * 5
        assert Counter(opcodes(running)) == {Opcode.PING: cap, Opcode.UNLOCK: 5}
