"""A TCP proxy between two real programs, which makes the network between them ill.

It has threads of its own, since who connects through it may block the test's loop.

with running_proxy(server.port) as proxy:
    proxy.delay_s = 0.1  # each piece, in each direction
    proxy.silence()  # nothing passes on what is connected, and nobody is told
    proxy.port_behind = 5433  # where new connections go
    proxy.cut()  # everything that is connected breaks
"""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Final

LOOK_S: Final = 0.1
"""How often a thread that waits looks whether it is to end."""


class Proxy:
    def __init__(self, port_behind: int) -> None:
        self.port_behind = port_behind
        self.delay_s = 0.0
        self.connections = 0
        """Ever taken."""
        self._silent: set[socket.socket] = set()
        self._ends: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_closing = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def silence(self) -> None:
        """Let nothing pass on what is connected now; the ends are not told."""
        with self._lock:
            self._silent = set(self._ends)

    def cut(self) -> None:
        """Break everything that is connected, as a reset does."""
        with self._lock:
            ends, self._ends = self._ends, set()
            self._silent = set()
        for end in ends:
            with contextlib.suppress(OSError):
                linger = struct.pack("ii", 1, 0)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._is_closing = True
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while not self._is_closing:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            try:
                far = socket.create_connection(("127.0.0.1", self.port_behind), 5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._ends |= {near, far}
            for source, target in ((near, far), (far, near)):
                thread = threading.Thread(
                    target=self._pass_on, args=(source, target), daemon=True
                )
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with source, target:
            with contextlib.suppress(OSError):
                while piece := source.recv(65_536):
                    self._wait_out_silence(source)
                    if self.delay_s:
                        time.sleep(self.delay_s)
                    target.sendall(piece)
            # That one end is gone is not told either.
            self._wait_out_silence(source)
            # Closing alone does not wake the thread that receives the other way.
            for end in (source, target):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _wait_out_silence(self, source: socket.socket) -> None:
        while source in self._silent:
            time.sleep(LOOK_S)


@contextlib.contextmanager
def running_proxy(port_behind: int) -> Iterator[Proxy]:
    proxy = Proxy(port_behind)
    try:
        yield proxy
    finally:
        proxy.close()
