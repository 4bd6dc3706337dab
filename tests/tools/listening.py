"""What a process listens on, as the kernel tells it (proc(5), Linux)."""

from pathlib import Path
from typing import Final

_LISTEN: Final = "0A"
"""TCP_LISTEN, include/net/tcp_states.h."""


def sockets_of(pid: int) -> set[str]:
    """Return the inodes of the sockets that a process holds."""
    held = set()
    for one in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(one.readlink())
        except FileNotFoundError:  # closed meanwhile
            continue
        if target.startswith("socket:["):
            held.add(target.removeprefix("socket:[").removesuffix("]"))
    return held


def ports_of(pid: int) -> set[int]:
    """Return the TCP ports on which a process listens, and the UDP ports it has."""
    held, ports = sockets_of(pid), set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        path = Path(f"/proc/{pid}/net/{table}")
        if not path.exists():  # a kernel without IPv6
            continue
        for line in path.read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            is_open = table.startswith("udp") or fields[3] == _LISTEN
            if is_open and fields[9] in held:
                ports.add(int(fields[1].rsplit(":", 1)[1], 16))
    return ports
