"""No single key stops a car that is on the way, or many cars at once (K28)."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection

from bridge.api.keys import Role
from bridge.approvals import Cause, MassLimits
from bridge.errors import StoreError
from bridge.postgres_database import PostgresDatabase
from bridge.rows.approvals import reach
from bridge.settings import ApprovalSettings
from bridge.store import Store
from certs.fleet import FleetDirectory
from certs.vehicle import random_vehicle_id
from protocol.codes import FrameClass
from tests.bridge.car import RENTAL
from tests.bridge.running import Json, Running, running_bridge
from tests.bridge.test_roles import KEY, ask, bridge_with_roles
from tests.bridge.world import NOW_MS
from tests.postgres import running_server
from tests.tools.command_line import freefloat
from tools.bridge_settings import local_settings

pytestmark = pytest.mark.broker

HOLD = {"kind": "engine_hold", "rental_id": None, "reason": "operator"}
UNLOCK = {"kind": "unlock", "rental_id": None}
OTHER = "o" * 40
"""Another operator's key."""
OTHER_LINE = f"otto:operator:{OTHER}\n"


def commands_of(running: Running) -> str:
    return f"/v1/vehicles/{running.car.id}/commands"


def kind(problem: Json) -> str:
    return str(problem["type"]).rpartition(":")[2]


async def order(
    running: Running, body: Json, *, key: str | None = None, who: str = ""
) -> tuple[int, Json]:
    headers = {"X-Api-Key": who or KEY[Role.OPERATOR]}
    headers |= {} if key is None else {"Idempotency-Key": key}
    return await running.order(body, headers=headers)


async def decide(
    running: Running, who: Role | str, approval: str, what: str = "approve"
) -> tuple[int, Json]:
    return await ask(running, who, "post", f"/v1/approvals/{approval}/{what}")


def sent(running: Running) -> int:
    return len(running.commands())


async def test_an_operator_who_holds_an_engine_waits_for_a_second_person(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # K28
    async with bridge_with_roles(
        fleet, tmp_path, approvals=ApprovalSettings()
    ) as running:
        await running.say(FrameClass.HELLO, running.car.hello())

        status, problem = await order(running, HOLD, key="a")
        again, same = await order(running, HOLD, key="a")
        approval = problem["approval"]["id"]
        assert (status, again, kind(problem)) == (409, 409, "approval-required")
        assert same["approval"]["id"] == approval
        assert approval in problem["detail"]
        assert sent(running) == 0

        approved, document = await decide(running, Role.APPROVER, approval)
        twice, repeated = await decide(running, Role.APPROVER, approval)
        replayed, command = await order(running, HOLD, key="a")
        _, events = await events_of(running)

    assert (approved, document["state"], sent(running)) == (200, "approved", 1)
    assert document["order"]["expected_version"] is None, "whatever its state"
    assert document["decided_by"] == "approver"
    assert (twice, repeated["outcomes"]) == (200, document["outcomes"])
    assert document["outcomes"] == [
        {
            "vehicle_id": str(running.car.id),
            "command_id": command["id"],
            "problem": None,
        }
    ]
    assert (replayed, command["kind"]) == (202, "engine_hold")
    assert events == ["pending", "approved"]


async def events_of(running: Running) -> tuple[list[Any], list[str]]:
    rows = [
        row
        for row in await running.bridge.store.outbox_after(0, 1000)
        if row.type == "freefloat.approval.changed"
    ]
    found = [str(row.body).split('"state":"')[1].split('"')[0] for row in rows]
    return rows, found


@pytest.mark.parametrize(
    ("body", "needs"),
    [
        (HOLD, True),
        ({"kind": "engine_hold", "rental_id": None}, True),
        (
            {"kind": "engine_hold", "rental_id": RENTAL.hex(), "reason": "operator"},
            True,
        ),
        ({"kind": "engine_hold", "rental_id": RENTAL.hex()}, False),
        ({"kind": "lock", "rental_id": None, "mode": "end"}, True),
        ({"kind": "lock", "rental_id": None}, True),
        ({"kind": "lock", "rental_id": None, "mode": "plain"}, False),
        ({"kind": "lock", "rental_id": RENTAL.hex(), "mode": "end"}, False),
        ({"kind": "lock_and_disable", "rental_id": None}, True),
        ({"kind": "lock_and_disable", "rental_id": RENTAL.hex()}, False),
        (UNLOCK, False),
        ({"kind": "ping"}, False),
    ],
)
async def test_what_strands_a_driver_outside_a_rentals_flow_needs_two(
    fleet: FleetDirectory, tmp_path: Path, body: Json, needs: bool
) -> None:
    # K28
    async with bridge_with_roles(
        fleet, tmp_path, approvals=ApprovalSettings()
    ) as running:
        await running.say(FrameClass.HELLO, running.car.hello())

        status, answer = await order(running, body)

    assert (status, sent(running)) == ((409, 0) if needs else (202, 1)), answer


async def test_who_asked_never_decides_and_who_decides_orders_nothing(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # K28
    boss = "b" * 40
    async with bridge_with_roles(
        fleet,
        tmp_path,
        approvals=ApprovalSettings(),
        more_keys=f"{OTHER_LINE}admin:admin:{boss}\n",
    ) as running:
        await running.say(FrameClass.HELLO, running.car.hello())
        _, problem = await order(running, HOLD, who=KEY[Role.ADMIN])
        approval = problem["approval"]["id"]

        own, why = await decide(running, Role.ADMIN, approval)
        second_key_of_own, _ = await decide(running, boss, approval)
        operator, refused = await decide(running, OTHER, approval)
        ordering, _ = await order(running, UNLOCK, who=KEY[Role.APPROVER])
        unknown, _ = await decide(running, Role.APPROVER, "0" * 32)
        rejected, _ = await decide(running, Role.APPROVER, approval, "reject")
        too_late, decided = await decide(running, Role.APPROVER, approval)

    assert (own, kind(why)) == (403, "approval-by-asker")
    assert second_key_of_own == 403
    assert (operator, kind(refused)) == (403, "role-forbids")
    assert (ordering, unknown, rejected) == (403, 404, 200)
    assert (too_late, kind(decided)) == (409, "approval-decided")
    assert sent(running) == 0


@pytest.mark.parametrize("letter", ["\0", "\n", "\x1b", "\x7f", "\x9b"])
async def test_a_note_cannot_rewrite_the_screen_of_who_decides(
    fleet: FleetDirectory, tmp_path: Path, letter: str
) -> None:
    """K28: a second person decides about what they see, in whatever they see it."""
    async with bridge_with_roles(
        fleet, tmp_path, approvals=ApprovalSettings()
    ) as running:
        many = {"vehicle_ids": [str(running.car.id)], "order": HOLD}
        gap = {
            "vehicle_id": str(running.car.id),
            "ledger_id": "0" * 16,
            "first": 1,
            "last": 2,
        }
        note = f"harmless{letter}[2J"
        asked = await ask(
            running, Role.OPERATOR, "post", "/v1/approvals", {**many, "note": note}
        )
        accepted = await ask(
            running,
            Role.OPERATOR,
            "post",
            "/v1/gaps/accept",
            {"gaps": [gap], "reason": note},
        )
        decided = await ask(
            running,
            Role.APPROVER,
            "post",
            f"/v1/approvals/{'0' * 32}/reject",
            {"note": note},
        )

    told = [
        (status, problem["errors"][0]["field"], problem["errors"][0]["problem"])
        for status, problem in (asked, accepted, decided)
    ]
    sentence = "must have no control characters"
    assert told == [(422, field, sentence) for field in ("note", "reason", "note")]


async def test_a_decision_that_is_kept_is_never_said_not_to_be(
    fleet: FleetDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K28, row 26: the store goes just after it; the same decision again says so."""
    async with bridge_with_roles(
        fleet, tmp_path, approvals=ApprovalSettings()
    ) as running:
        await running.say(FrameClass.HELLO, running.car.hello())
        _, problem = await order(running, HOLD)
        approval = problem["approval"]["id"]
        store = running.bridge.store
        real, is_decided = store.write_soon, False

        async def decided(work: Callable[[Connection], Any]) -> Any:
            nonlocal is_decided
            done = await real(work)
            is_decided = True
            return done

        read = store.read

        async def lost(work: Callable[[Connection], Any]) -> Any:
            if is_decided:
                raise StoreError("gone")
            return await read(work)

        with monkeypatch.context() as patched:
            patched.setattr(store, "write_soon", decided)
            patched.setattr(store, "read", lost)
            status, told = await decide(running, Role.APPROVER, approval)
        again, document = await decide(running, Role.APPROVER, approval)

    assert (status, kind(told)) == (503, "outcome-unknown")
    assert "nothing" not in told["detail"]
    assert (again, document["state"]) == (200, "approved")


async def test_nobody_takes_the_place_of_an_approved_order_beforehand(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    """K28: an approval's id is seen by all who look, also by who wants it to fail."""
    async with bridge_with_roles(
        fleet, tmp_path, approvals=ApprovalSettings()
    ) as running:
        await running.say(FrameClass.HELLO, running.car.hello())
        _, problem = await order(running, HOLD)
        approval = problem["approval"]["id"]
        statuses = [
            (await order(running, {"kind": "ping"}, key=key, who=KEY[Role.SERVICE]))[0]
            for key in (f"approval-{approval}", f"approval {approval}", approval)
        ]
        _, document = await decide(running, Role.APPROVER, approval)
        [outcome] = document["outcomes"]
        path = f"/v1/commands/{outcome['command_id']}"
        _, command = await ask(running, Role.VIEWER, "get", path)

    assert statuses == [202, 422, 202]
    assert (outcome["problem"], command["kind"]) == (None, "engine_hold")


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "engine_hold", "rental_id": None},
        {"kind": "engine_hold", "rental_id": RENTAL.hex(), "reason": "operator"},
        {"kind": "lock", "rental_id": None, "mode": "plain"},
    ],
)
@pytest.mark.parametrize("is_required", [True, False])
async def test_a_service_takes_back_nothing_that_an_operator_ordered(
    fleet: FleetDirectory, tmp_path: Path, body: Json, is_required: bool
) -> None:
    """K28: least of all what a second person has let go."""
    async with bridge_with_roles(
        fleet, tmp_path, approvals=ApprovalSettings(required=is_required)
    ) as running:
        path = f"/v1/vehicles/{running.car.id}/commands?defer_s=600"
        _, made = await ask(running, Role.OPERATOR, "post", path, body)
        if "approval" in made:
            _, done = await decide(running, Role.APPROVER, made["approval"]["id"])
            made = {"id": done["outcomes"][0]["command_id"]}
        own = {"kind": "lock", "rental_id": RENTAL.hex()}
        _, owned = await ask(running, Role.SERVICE, "post", path, own)
        by_service = [
            await ask(running, Role.SERVICE, "delete", f"/v1/commands/{one['id']}")
            for one in (made, owned)
        ]
        by_operator, ended = await ask(
            running, Role.OPERATOR, "delete", f"/v1/commands/{made['id']}"
        )

    assert [status for status, _ in by_service] == [403, 200]
    assert kind(by_service[0][1]) == "role-forbids"
    assert (by_operator, ended["state"]) == (200, "cancelled")


async def test_what_was_rejected_or_is_over_is_told_so_and_never_sent(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # K28
    now = NOW_MS
    async with bridge_with_roles(
        fleet,
        tmp_path,
        approvals=ApprovalSettings(expire_s=60),
        now=lambda: now,
    ) as running:
        await running.say(FrameClass.HELLO, running.car.hello())
        _, first = await order(running, HOLD, key="a")
        await decide(running, Role.APPROVER, first["approval"]["id"], "reject")
        rejected = await order(running, HOLD, key="a")
        _, second = await order(running, HOLD, key="b")
        now += 60_000
        late = await decide(running, Role.APPROVER, second["approval"]["id"])
        over = await order(running, HOLD, key="b")
        _, page = await ask(running, Role.ADMIN, "get", "/v1/audit")
        _, states = await events_of(running)

    assert (rejected[0], kind(rejected[1])) == (403, "approval-rejected")
    assert (late[0], kind(late[1])) == (409, "approval-decided")
    assert (over[0], kind(over[1])) == (409, "approval-over")
    assert states == ["pending", "rejected", "pending", "expired"]
    told = [row["outcome"] for row in page["rows"] if row["who"] == "bridge"]
    assert told == ["expired"]
    assert sent(running) == 0


async def test_an_order_split_into_single_calls_is_counted_by_caller_and_in_all(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # K28, fault row 33: no way around by splitting, nor by a second key.
    now = NOW_MS
    cars = [str(vehicle_id) for vehicle_id in fleet.vehicle_ids()]
    paths = [f"/v1/vehicles/{car}/commands" for car in cars]
    limits = ApprovalSettings(window_s=60, vehicles_per_caller=1, vehicles=2)
    async with bridge_with_roles(
        fleet, tmp_path, approvals=limits, more_keys=OTHER_LINE, now=lambda: now
    ) as running:
        answers = [
            await ask(running, who, "post", path, UNLOCK)
            for who, path in (
                (Role.OPERATOR, paths[0]),
                (Role.OPERATOR, paths[0]),
                (Role.OPERATOR, paths[1]),
                (OTHER, paths[1]),
                (Role.ADMIN, paths[2]),
                (Role.SERVICE, paths[2]),
            )
        ]
        reserve = {"kind": "reserve", "rental_id": RENTAL.hex(), "hold_s": 9}
        secret = await ask(running, Role.OPERATOR, "post", paths[1], reserve)
        within = {"kind": "unlock", "rental_id": RENTAL.hex()}
        service = await ask(running, Role.SERVICE, "post", paths[2], within)
        now += 60_001
        later = await ask(running, Role.OPERATOR, "post", paths[1], UNLOCK)

    assert [kind(answer) for _, answer in answers] == [
        "vehicle-offline",
        "vehicle-offline",
        "approval-required",
        "vehicle-offline",
        "approval-required",
        "role-forbids",
    ]
    causes = [a["approval"]["cause"] for _, a in answers if "approval" in a]
    assert causes == ["many-by-caller", "many-in-all"]
    assert (secret[0], kind(secret[1])) == (403, "approval-impossible")
    assert kind(service[1]) == kind(later[1]) == "vehicle-offline"


async def test_a_configuration_for_many_cars_is_counted_like_an_order(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # K28: who may drive, and where a rental may end, is a mass order by its effect.
    cars = [str(vehicle_id) for vehicle_id in fleet.vehicle_ids()]
    paths = [f"/v1/vehicles/{car}/configurations" for car in cars]
    limits = ApprovalSettings(vehicles_per_caller=1)
    async with bridge_with_roles(fleet, tmp_path, approvals=limits) as running:
        headers = {"X-Api-Key": KEY[Role.OPERATOR]}
        puts = [
            await running.put(f"{path}/policy", data=b"{}", headers=headers)
            for path in (paths[0], paths[0], paths[1])
        ]
        _, before = await ask(running, Role.VIEWER, "get", paths[1])
        one = puts[2][1]["approval"]
        decided = await decide(running, Role.APPROVER, one["id"])
        _, after = await ask(running, Role.VIEWER, "get", paths[1])
        again = await running.put(f"{paths[1]}/policy", data=b"{}", headers=headers)

        many = {
            "vehicle_ids": cars,
            "configuration": {"kind": "policy", "body": "e30="},
        }
        asked, kept = await ask(running, Role.OPERATOR, "post", "/v1/approvals", many)
        own, _ = await decide(running, Role.OPERATOR, kept["id"])
        _, all_of_it = await decide(running, Role.APPROVER, kept["id"])
        _, third = await ask(running, Role.VIEWER, "get", paths[2])
        both = many | {"order": UNLOCK}
        unclear, _ = await ask(running, Role.OPERATOR, "post", "/v1/approvals", both)

    assert [status for status, _ in puts] == [200, 200, 409]
    assert (kind(puts[2][1]), one["cause"]) == ("approval-required", "many-by-caller")
    digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    wanted = {"configuration": "policy", "length": 2, "sha256": digest}
    assert one["order"] == {"kind": "configure", **wanted}
    assert before["configurations"] == []
    assert (decided[0], again[0]) == (200, 200)
    assert [one["sha256"] for one in after["configurations"]] == [digest]
    assert (asked, own, unclear) == (201, 403, 422)
    assert [one["problem"] for one in all_of_it["outcomes"]] == [None] * len(cars)
    assert [one["sha256"] for one in third["configurations"]] == [digest]


async def test_calls_at_the_same_moment_do_not_share_the_last_place(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # K28
    limits = ApprovalSettings(vehicles_per_caller=1)
    async with bridge_with_roles(fleet, tmp_path, approvals=limits) as running:
        answers = await asyncio.gather(
            *(
                ask(
                    running,
                    Role.OPERATOR,
                    "post",
                    f"/v1/vehicles/{vehicle_id}/commands",
                    UNLOCK,
                )
                for vehicle_id in fleet.vehicle_ids()
            )
        )

    kinds = sorted(kind(answer) for _, answer in answers)
    assert kinds == ["approval-required", "approval-required", "vehicle-offline"]


async def test_one_order_for_many_vehicles_is_given_to_each_once_approved(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # K28, fault row 33: a mass order waits for a second person
    cars = [str(vehicle_id) for vehicle_id in fleet.vehicle_ids()]
    body = {"vehicle_ids": cars, "order": HOLD, "note": "recall 17"}
    async with bridge_with_roles(
        fleet, tmp_path, approvals=ApprovalSettings()
    ) as running:
        await running.say(FrameClass.HELLO, running.car.hello())
        asked, approval = await ask(
            running, Role.OPERATOR, "post", "/v1/approvals", body
        )
        _, same = await ask(running, Role.OPERATOR, "post", "/v1/approvals", body)
        assert (asked, approval["state"], sent(running)) == (201, "pending", 0)
        assert same["id"] == approval["id"]
        counts = await running.bridge.store.counts()
        assert (counts.approvals, counts.first_over_ms) == (1, NOW_MS + 900_000)

        _, done = await decide(running, Role.APPROVER, approval["id"])

    problems = {o["vehicle_id"]: o["problem"] for o in done["outcomes"]}
    assert done["is_carried_out"]
    assert problems.pop(str(running.car.id)) is None
    assert len(problems) == 2
    assert all("offline" in str(problem) for problem in problems.values())
    assert sent(running) == 1


async def test_an_approved_order_survives_the_bridge_and_is_given_once(
    fleet: FleetDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # K28
    now = NOW_MS
    settings = ApprovalSettings()
    with monkeypatch.context() as broken:

        async def stops(*_: object, **__: object) -> None:
            raise asyncio.CancelledError

        broken.setattr("bridge.approval_desk.ApprovalDesk._give", stops)
        async with bridge_with_roles(fleet, tmp_path, approvals=settings) as running:
            _, problem = await order(running, HOLD)
            approval = problem["approval"]["id"]
            _, left = await decide(running, Role.APPROVER, approval)
    assert (left["state"], left["is_carried_out"]) == ("approved", False)

    now += 6_000
    async with bridge_with_roles(
        fleet, tmp_path, approvals=settings, now=lambda: now
    ) as running:
        await running.say(FrameClass.HELLO, running.car.hello())
        path = f"/v1/approvals/{approval}"
        found = left
        while not found["is_carried_out"]:
            await asyncio.sleep(0.02)
            _, found = await ask(running, Role.VIEWER, "get", path)
        assert found["outcomes"][0]["problem"] is None
        assert sent(running) == 1


async def test_an_engineer_approves_on_the_command_line(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # K28
    key = tmp_path / "approver.key"
    key.touch(mode=0o600)
    key.write_text(f"approver:approver:{KEY[Role.APPROVER]}\n")
    async with bridge_with_roles(
        fleet, tmp_path, approvals=ApprovalSettings()
    ) as running:
        await running.say(FrameClass.HELLO, running.car.hello())
        _, problem = await order(running, HOLD)
        approval = problem["approval"]["id"]
        to = ("--api", running.bridge.api_url, "--api-key-file", str(key))

        def say(*words: str) -> str:
            done = freefloat("bridge", "approvals", *words, *to, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            return done.stdout

        listed = await asyncio.to_thread(say, "list", "--state", "pending")
        approved = await asyncio.to_thread(
            say, "approve", approval, "--note", "ok", "--no-wait"
        )

    assert approval in listed
    assert "approved" in approved
    assert sent(running) == 1


async def test_a_bridge_without_an_approver_says_so_before_one_is_needed(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(
        local_settings(
            fleet.path, state=tmp_path, broker=("127.0.0.1", 1), api=("127.0.0.1", 0)
        ),
        approvals=ApprovalSettings(),
    )
    async with running_bridge(fleet, tmp_path, settings=settings) as running:
        status, ready = await running.get("/ready")
        assert (status, list(ready["warnings"])) == (200, ["approvals"])


@pytest.mark.postgres
async def test_bridges_on_one_database_count_the_same_vehicles(
    fleet: FleetDirectory,
) -> None:
    # K28: splitting an order over replicas and callers at the same moment.
    cars = [random_vehicle_id() for _ in range(10)]
    limits = MassLimits(window_ms=60_000, by_caller=100, in_all=7)
    with running_server() as server:
        url = server.make_database()
        stores = [
            Store(PostgresDatabase(url), fleet_id=fleet.fleet.fleet_id)
            for _ in range(2)
        ]
        for store in stores:
            await asyncio.to_thread(store.open)
        try:
            causes = await asyncio.gather(
                *(
                    store.write(
                        partial(
                            reach,
                            caller=f"caller-{number % 3}",
                            vehicle_id=car,
                            limits=limits,
                            now=NOW_MS,
                        )
                    )
                    for number, car in enumerate(cars)
                    for store in stores
                )
            )
        finally:
            for store in stores:
                await store.close()

    # Each car was asked for twice, and counts once.
    assert causes.count(None) == 14
    assert set(causes) == {None, Cause.MANY_IN_ALL}
