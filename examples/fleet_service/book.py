"""The service's book: reservations, events seen, invoices, bonus minutes.

One transaction holds the event's id and everything that the event changed. An event
that comes twice therefore changes nothing twice, whenever either side crashed: the
bridge delivers at least once, the book makes it exactly once.
"""

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from examples.fleet_service.pricing import Invoice, Report, price

SCHEMA: Final = """
create table if not exists reservation (
    rental_id text primary key, vehicle_id text not null, customer text not null
);
create table if not exists seen (event_id text primary key);
create table if not exists invoice (
    rental_id text primary key, customer text not null, document text not null
);
create table if not exists bonus (customer text primary key, minutes integer not null);
"""


@dataclass(frozen=True, slots=True)
class Reservation:
    """Who reserved which car."""

    rental_id: str
    vehicle_id: str
    customer: str


class Book:
    """The book on one SQLite file."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("pragma journal_mode=wal").close()
        self._connection.execute("pragma synchronous=full").close()
        self._connection.executescript(SCHEMA).close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def reserve(self, reservation: Reservation) -> None:
        """Note a reservation before the car is asked."""
        self._connection.execute(
            "insert into reservation values (?, ?, ?)",
            (reservation.rental_id, reservation.vehicle_id, reservation.customer),
        )

    def reservation(self, rental_id: str) -> Reservation | None:
        """Return a reservation, or None."""
        row = self._connection.execute(
            "select rental_id, vehicle_id, customer from reservation "
            "where rental_id = ?",
            (rental_id,),
        ).fetchone()
        return None if row is None else Reservation(*row)

    def note(self, event_id: str) -> bool:
        """Note an event that changes nothing; False if it was seen before."""
        cursor = self._connection.execute(
            "insert or ignore into seen values (?)", (event_id,)
        )
        return cursor.rowcount == 1

    def charge(
        self, event_id: str, reservation: Reservation, report: Report
    ) -> Invoice | None:
        """Price a rental once; None if its event or its rental was charged before."""
        with self._connection:
            self._connection.execute("begin immediate")
            if not self.note(event_id):
                return None
            if self.invoice(reservation.rental_id) is not None:
                return None
            customer = reservation.customer
            invoice = price(report, bonus_min=self.bonus(customer))
            self._connection.execute(
                "insert into invoice values (?, ?, ?)",
                (reservation.rental_id, customer, json.dumps(invoice.to_json())),
            )
            self._connection.execute(
                "insert or replace into bonus values (?, ?)",
                (customer, invoice.bonus_balance_min),
            )
            return invoice

    def invoice(self, rental_id: str) -> dict[str, object] | None:
        """Return an invoice's document, or None."""
        row = self._connection.execute(
            "select document from invoice where rental_id = ?", (rental_id,)
        ).fetchone()
        if row is None:
            return None
        document: dict[str, object] = json.loads(row[0])
        return document

    def bonus(self, customer: str) -> int:
        """Return a customer's bonus minutes."""
        row = self._connection.execute(
            "select minutes from bonus where customer = ?", (customer,)
        ).fetchone()
        return 0 if row is None else int(row[0])
