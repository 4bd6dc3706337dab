"""A machine that slept notices it, by the real clocks of Linux (FF-FRE-05)."""

import subprocess
import sys

import pytest

from gateway.runtime.suspend_watch import SLEEP_LIMIT_MS, SuspendWatch
from gateway.runtime.system_clock import SystemClock
from protocol.codes import Code
from tests.gateway.manual_clock import ManualClock
from tests.tools.command_line import SOURCES


def test_a_sleep_up_to_a_minute_ends_no_session() -> None:
    clock = ManualClock()
    watch = SuspendWatch(clock)

    clock.suspend(SLEEP_LIMIT_MS / 1000)
    assert not watch.has_overslept
    clock.suspend(0.001)
    assert watch.has_overslept


def test_short_sleeps_count_together_until_a_session_begins() -> None:
    clock = ManualClock()
    watch = SuspendWatch(clock)
    for _ in range(3):
        clock.suspend(31)
    assert watch.has_overslept

    watch.begin()

    assert not watch.has_overslept


async def test_time_that_passes_awake_is_no_sleep() -> None:
    clock = ManualClock()
    watch = SuspendWatch(clock)

    await clock.advance(86_400)

    assert not watch.has_overslept


def test_a_machine_that_is_awake_does_not_sleep_on_the_real_clocks() -> None:
    watch = SuspendWatch(SystemClock())

    assert not watch.has_overslept


_SLEEPER = """
import ctypes, os, sys
from gateway.core.known_time import KnownTime
from gateway.runtime.suspend_watch import SuspendWatch
from gateway.runtime.system_clock import SystemClock
from protocol.codes import ClockQuality
from tests.gateway.core.desk import NOW, FrontDesk, command_frame

def judged():
    now = SystemClock().now()
    known = KnownTime(NOW.wall_ms, now.boot_ms, ClockQuality.SYNC)
    verdict = FrontDesk(time=known).judge(unlock, now=now)
    return type(verdict).__name__, getattr(verdict, "code", "fresh")

unlock = command_frame(mono_ms=SystemClock().now().boot_ms + 9_000)
fresh = judged()
CLONE_NEWTIME, CLONE_NEWUSER = 0x80, 0x10000000
libc = ctypes.CDLL(None, use_errno=True)
watch = SuspendWatch(SystemClock())
before = watch.has_overslept
flags = CLONE_NEWTIME if os.geteuid() == 0 else CLONE_NEWTIME | CLONE_NEWUSER
if libc.unshare(flags):
    sys.exit(77)
# A boot clock ahead of the monotonic one by as much as a suspend makes it
# (time_namespaces(7)).
try:
    with open("/proc/self/timens_offsets", "w") as offsets:
        offsets.write(f"boottime {sys.argv[1]} 0")
    namespace = os.open("/proc/self/ns/time_for_children", os.O_RDONLY)
except OSError:
    sys.exit(77)
if libc.setns(namespace, CLONE_NEWTIME):
    sys.exit(77)
print(before, watch.has_overslept, *fresh, *judged())
"""


@pytest.mark.parametrize(
    ("slept_s", "noticed"), [(SLEEP_LIMIT_MS // 1000 + 1, True), (30, False)]
)
def test_unlock_after_suspend_a_real_jump_of_the_boot_clock_is_noticed(
    slept_s: int, noticed: bool
) -> None:
    # I-6 (F), row 11: the clock of the system jumps, in a process of its own. The
    # unlock that was fresh has expired by it, whether the session ends or not.
    done = subprocess.run(
        [sys.executable, "-c", _SLEEPER, str(slept_s)],
        cwd=SOURCES,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode == 77:
        pytest.skip("time namespaces are not permitted here")

    before, after, *verdicts = done.stdout.split() or [done.stderr] * 2
    assert (before, after) == ("False", str(noticed))
    assert verdicts == [
        "CommandReceived",
        "fresh",
        "Refused",
        *str(Code.EXPIRED).split(),
    ]
