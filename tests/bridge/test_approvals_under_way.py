"""Between a second person's word and the command that it lets go (K28)."""

import asyncio
from pathlib import Path

import pytest

from bridge import approval_desk
from bridge.api.keys import Role
from bridge.approval_desk import ApprovalDesk
from bridge.approvals import Approval
from bridge.settings import ApprovalSettings
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from tests.bridge.test_approvals import HOLD, decide, kind, order, sent
from tests.bridge.test_roles import bridge_with_roles

pytestmark = pytest.mark.broker


async def test_who_asks_again_before_it_is_given_is_not_told_that_it_never_will_be(
    fleet: FleetDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K28, I-11: under another key it would be held, and wait for two, once more."""
    go_on = asyncio.Event()

    async def wait(_desk: ApprovalDesk, _approval: Approval) -> None:
        await go_on.wait()

    async with bridge_with_roles(
        fleet, tmp_path, approvals=ApprovalSettings()
    ) as running:
        await running.say(FrameClass.HELLO, running.car.hello())
        _, problem = await order(running, HOLD, key="a")
        approval = problem["approval"]["id"]
        with monkeypatch.context() as patched:
            # As when a bridge stops there, or its signer is slow.
            patched.setattr(ApprovalDesk, "_carry_out", wait)
            patched.setattr(approval_desk, "ANSWER_S", 0.01)
            approved, _ = await decide(running, Role.APPROVER, approval)
            status, told = await order(running, HOLD, key="a")
            assert sent(running) == 0
        go_on.set()
        await asyncio.sleep(0)
        await decide(running, Role.APPROVER, approval)
        given, command = await order(running, HOLD, key="a")

    assert approved == 200
    assert (status, kind(told)) == (409, "approval-under-way")
    assert "nothing was sent" not in told["detail"]
    assert (given, command["kind"], sent(running)) == (202, "engine_hold", 1)
