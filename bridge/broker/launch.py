"""Become another program that the kernel ends when its parent dies.

Run as a script, by path: ``python -I -S launch.py PARENT_PID PROGRAM ARGUMENT...``.

On Linux, prctl(2) PR_SET_PDEATHSIG asks the kernel to send a signal to this process
when the thread that started it ends; the setting outlives execve(2) of a program
without set-user-ID or file capabilities. So a broker never survives its owner, not even
one that was killed with SIGKILL, and needs no watcher beside it. Elsewhere the program
is started all the same and only an orderly stop ends it.

It is a script of its own and no `preexec_fn`, because code between fork and exec may
deadlock in a process that has threads.
"""

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
"""<linux/prctl.h>."""


def main(arguments: list[str]) -> None:
    """Tie this process to its parent and become the program."""
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        library = ctypes.CDLL(None, use_errno=True)
        if library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
            sys.exit(f"prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        # The parent died before prctl; the kernel will not tell us any more.
        sys.exit("the parent process is gone")
    os.execv(command[0], command)  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main(sys.argv[1:])
