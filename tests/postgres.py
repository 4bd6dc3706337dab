"""A PostgreSQL server of the tests' own: a fresh cluster on a free port of loopback.

PostgreSQL refuses to run as root; started by root it becomes the user `postgres`, whom
Debian's package makes.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg

from transport.tls import TlsIdentity

USER: Final = "freefloat"
START_S: Final = 30.0


def missing_postgres() -> str | None:
    """What is missing, or None."""
    if find_programs() is None:
        return "PostgreSQL is not installed: apt-get install postgresql"
    return None


def find_programs() -> Path | None:
    """Where `initdb` and `postgres` are; Debian keeps them off the path."""
    found = shutil.which("postgres")
    if found is not None:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return versions[-1] if versions else None


def client_program(name: str) -> str:
    """Where a program such as `pg_dump` is; it is beside the server or on the path."""
    programs = find_programs()
    assert programs is not None
    beside = programs.joinpath("postgres").resolve().with_name(name)
    return str(beside) if beside.exists() else name


class Server:
    """One cluster; `start` it first and `remove` it last."""

    def __init__(self, tls: TlsIdentity | None = None) -> None:
        """`tls`: its identity; who comes from elsewhere comes by TLS then."""
        programs = find_programs()
        assert programs is not None
        self._programs = programs
        self._user = "postgres" if os.geteuid() == 0 else None
        # Not below pytest's own directory, which only its user may enter.
        self._folder = Path(tempfile.mkdtemp(prefix="ff-pg-"))
        self.port = _free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self._tls = tls

    def start(self) -> None:
        data = self._folder / "data"
        if not data.exists():
            if self._user is not None:
                shutil.chown(self._folder, self._user)
            self._run(
                *("initdb", "--pgdata", str(data), "--username", USER),
                *("--auth", "trust", "--no-sync", "--encoding", "UTF8"),
            )
            if self._tls is not None:
                self._seal(data, self._tls)
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(str(self._programs / "postgres"), "-D", str(data)),
                    *("-p", str(self.port), "-h", "127.0.0.1"),
                    *("-k", str(self._folder), "-c", "max_connections=60"),
                    f"-cssl={'off' if self._tls is None else 'on'}",
                ],
                user=self._user,
                cwd=self._folder,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        self._wait()

    def _seal(self, data: Path, tls: TlsIdentity) -> None:
        for source, name in (
            (tls.certificate, "server.crt"),
            (tls.key, "server.key"),
            (tls.trust_anchors, "root.crt"),
        ):
            shutil.copyfile(source, data / name)
            (data / name).chmod(0o600)
            if self._user is not None:
                shutil.chown(data / name, self._user)
        with (data / "postgresql.auto.conf").open("a") as settings:
            settings.write("ssl_ca_file = 'root.crt'\n")
        (data / "pg_hba.conf").write_text(
            # The tests' own way in, and the bridges': by TLS, or with a certificate.
            "local all all trust\n"
            f"hostssl all {USER} 127.0.0.1/32 trust\n"
            "hostssl all ff-bridge-1 127.0.0.1/32 cert\n"
        )

    def _run(self, *arguments: str) -> None:
        program, *rest = arguments
        subprocess.run(
            [str(self._programs / program), *rest],
            check=True,
            user=self._user,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                self._admin().close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def _admin(self) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(self.own_url("postgres"), autocommit=True)

    def own_url(self, database: str) -> str:
        """By its Unix socket, whatever TLS it asks for."""
        return f"postgresql://{USER}@/{database}?host={self._folder}&port={self.port}"

    def url(self, database: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def make_database(self) -> str:
        """Make an empty database and return its address."""
        self._databases += 1
        name = f"bridge_{self._databases}"
        with self._admin() as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def make_replica(self) -> "Server":
        """Return a started server that streams from this one.

        From then on what this one commits is on the replica's disk too
        (synchronous replication); `promote` lets it stand on its own.
        """
        replica = Server()
        if replica._user is not None:
            shutil.chown(replica._folder, replica._user)
        try:
            replica._run(
                *(
                    client_program("pg_basebackup"),
                    "--host=127.0.0.1",
                    f"--port={self.port}",
                ),
                *(f"--username={USER}", f"--pgdata={replica._folder / 'data'}"),
                *("--write-recovery-conf", "--checkpoint=fast", "--no-sync"),
            )
            replica.start()
            self._wait_synchronous()
        except BaseException:
            replica.remove()
            raise
        return replica

    def _wait_synchronous(self) -> None:
        admin = self.url("postgres")
        self.execute(admin, "ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.execute(admin, "SELECT pg_reload_conf()")
        state, begun_s = "SELECT sync_state FROM pg_stat_replication", time.monotonic()
        while self.execute(admin, state) != [("sync",)]:
            if time.monotonic() > begun_s + START_S:
                raise TimeoutError(state)
            time.sleep(0.05)

    def promote(self) -> None:
        """Let a replica stand on its own and take writes."""
        self.execute(self.url("postgres"), "SELECT pg_promote(true, 30)")

    def execute(self, url: str, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def has_in_tables(self, needle: bytes) -> bool:
        """Return whether a file of a table holds these bytes; the log is left out."""
        files = (self._folder / "data" / "base").rglob("*")
        return any(needle in one.read_bytes() for one in files if one.is_file())

    def kill(self) -> None:
        """End it as a crash of the machine would end it, but for the disk's cache.

        The postmaster's children leave when they see that it is gone.
        """
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)
        self.process = None

    def freeze(self) -> None:
        """Stop all of it where it stands; its machine still takes connections."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        assert self.process is not None
        # The postmaster first, so that it makes no child that is missed.
        self.process.send_signal(number)
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), number)

    def remove(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(30)
        shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def running_server(tls: TlsIdentity | None = None) -> Iterator[Server]:
    server = Server(tls)
    try:
        server.start()
        yield server
    finally:
        server.remove()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
