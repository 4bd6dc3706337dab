"""Places are sealed, each under a key that goes into no backup of the store (K26).

Those that are there are sealed as well. Unlike other steps this one drops what it
replaces: a place that stayed readable beside its seal would not be sealed, and no
release has been made that writes it.
"""

from alembic import op
from sqlalchemy import BigInteger, Column, LargeBinary, String, text

from bridge.place_seal import new_key, seal_place
from protocol.packed.place import PLACE
from protocol.place import EventPlace

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the keys, seal what is there, and drop what was readable."""
    op.create_table(
        "place_keys",
        Column("vehicle_id", String(26), primary_key=True),
        Column("ledger_id", LargeBinary(8), primary_key=True),
        Column("seq", BigInteger, primary_key=True, autoincrement=False),
        Column("key", LargeBinary(32), nullable=False),
    )
    op.add_column("places", Column("sealed", LargeBinary(72)))
    connection = op.get_bind()
    rows = connection.execute(
        text(
            "SELECT vehicle_id, ledger_id, seq, salt, place FROM places "
            "WHERE place IS NOT NULL"
        )
    ).all()
    for vehicle, ledger_id, seq, salt, place in rows:
        told = EventPlace(bytes(ledger_id), seq, bytes(salt), PLACE.parse(bytes(place)))
        key = new_key()
        named = {"vehicle": vehicle, "ledger": bytes(ledger_id), "seq": seq}
        connection.execute(
            text("INSERT INTO place_keys VALUES (:vehicle, :ledger, :seq, :key)"),
            {**named, "key": key},
        )
        connection.execute(
            text(
                "UPDATE places SET sealed = :sealed, salt = NULL, place = NULL "
                "WHERE vehicle_id = :vehicle AND ledger_id = :ledger AND seq = :seq"
            ),
            {**named, "sealed": seal_place(key, vehicle, told)},
        )
    op.drop_column("places", "salt")
    op.drop_column("places", "place")
