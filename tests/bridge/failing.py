"""A bridge as it is run, that kills itself at one point; run by test_real_failpoints.

    FREEFLOAT_FAILPOINT=POINT python -m tests.bridge.failing bridge run ...

It dies by SIGKILL the third time that it comes there, in the middle of its work.
"""

import asyncio
import os
import signal
from typing import Any, Final

from bridge.prover import Prover
from bridge.sinks.json_lines import JsonLinesSink
from bridge.store import Store
from tools.cli import main
from transport.link import MqttLink
from transport.message import IncomingMessage

VARIABLE: Final = "FREEFLOAT_FAILPOINT"
PASSES: Final = 3
LINGER_S: Final = 0.3

AFTER: Final[dict[str, tuple[type, str]]] = {
    "receive": (MqttLink, "take"),
    "verify": (Prover, "judge"),
    "commit": (Store, "commit_batch"),
    "acknowledge": (IncomingMessage, "done"),
    "receipt": (MqttLink, "post"),
    "forward": (JsonLinesSink, "deliver"),
}
"""What has just been done when the process dies: what comes next is not."""

AWAITED: Final = frozenset({"receive", "commit", "forward"})


def arm(point: str) -> None:
    where, name = AFTER[point]
    done: Any = getattr(where, name)
    passed = 0

    def die() -> None:
        nonlocal passed
        passed += 1
        if passed == PASSES:
            os.kill(os.getpid(), signal.SIGKILL)

    async def awaited(*args: Any, **named: Any) -> Any:
        found = await done(*args, **named)
        if passed == PASSES - 1:
            # What else the bridge has to do meanwhile, it has done.
            await asyncio.sleep(LINGER_S)
        die()
        return found

    def called(*args: Any, **named: Any) -> Any:
        found = done(*args, **named)
        die()
        return found

    setattr(where, name, awaited if point in AWAITED else called)


if __name__ == "__main__":
    arm(os.environ[VARIABLE])
    main()
