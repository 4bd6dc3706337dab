"""A connection to PostgreSQL that does not wait for ever for a server that is silent.

Every limit that PostgreSQL has is kept by the server itself, and TCP's keep-alive asks
the machine. A server that is frozen, whose machine still answers, or a proxy whose
server is gone, keeps neither: without this the store would wait until somebody came,
also when a healthy server has taken over long ago (reliability.md row 26).
"""

import time
from typing import Final, TypeVar

import psycopg
from psycopg.abc import PQGen

SILENCE_S: Final = 20.0
"""How long an answer may take in s: a server that lives has ended a statement by its
own limit of 15 s before (`bridge.postgres_database`)."""

INTERVAL_S: Final = 0.1
"""How often psycopg looks at its own clock while it waits."""

Row_co = TypeVar("Row_co", covariant=True)
Answer = TypeVar("Answer")


class AnsweringConnection(psycopg.Connection[Row_co]):
    """psycopg's connection, which is given up once the server has been silent."""

    def wait(
        self,
        gen: PQGen[Answer],
        interval: float = INTERVAL_S,
        timeout: float | None = None,
    ) -> Answer:
        """Wait for the server's answer.

        Raises:
            psycopg.OperationalError: none came in `SILENCE_S`. Whether the server did
                what it was asked is not known, and the connection is closed.
        """
        limit_s = SILENCE_S if timeout is None else timeout
        begun_s = time.monotonic()
        try:
            return super().wait(gen, interval, limit_s)
        except psycopg.OperationalError as error:
            if time.monotonic() - begun_s < limit_s:
                raise
            self.close()
            raise psycopg.OperationalError(
                f"the server has not answered for {limit_s:g} s"
            ) from error
