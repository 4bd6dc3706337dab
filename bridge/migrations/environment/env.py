# ruff: noqa: INP001 - alembic runs this file by its path; it is no module
"""Runs the steps on the connection that `bridge.migrations.migration` hands over."""

from alembic import context

from bridge.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    # SQLite alters a table by making it anew.
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
