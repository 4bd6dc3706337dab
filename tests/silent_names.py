"""`freefloat` as it is run, on a machine whose name server falls silent.

    FREEFLOAT_SILENCE=FILE python -m tests.silent_names bridge run ...

While FILE is there, who asks for the address of a name hears nothing for a minute, and
leaves FILE.asked: a real name server would ask the network, which no test may.
"""

import os
import socket
import time
from pathlib import Path
from typing import Any, Final

from tools.cli import main

VARIABLE: Final = "FREEFLOAT_SILENCE"
SILENCE_S: Final = 60.0
"""Of the C library, with two name servers and several attempts at each."""

NAME: Final = "localhost"


def arm(silence: Path) -> None:
    system = socket.getaddrinfo

    def resolve(host: Any, *asked: Any, **named: Any) -> Any:
        if host == NAME and silence.exists():
            silence.with_suffix(".asked").touch()
            time.sleep(SILENCE_S)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure")
        return system(host, *asked, **named)

    socket.getaddrinfo = resolve


if __name__ == "__main__":
    arm(Path(os.environ[VARIABLE]))
    main()
