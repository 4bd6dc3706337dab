"""The log as JSON: one object a line, whose event's name holds no data."""

import json
import logging

import pytest

from tools.structured_log import StructuredFormatter, configure_log, event_of


@pytest.mark.parametrize(
    ("template", "event"),
    [
        ("= connected to the broker", "connected_to_the_broker"),
        ("= no link: %s; next try in %.1f s", "no_link_next_try_in_s"),
        ("= sink %s: %s %s is set aside: %s", "sink_is_set_aside"),
        ("%s %s%s", "frame"),
        ("x" * 200, "x" * 64),
    ],
)
def test_an_event_is_named_by_what_a_line_always_says(
    template: str, event: str
) -> None:
    assert event_of(template) == event


def test_a_line_is_one_object_with_what_is_known_of_it() -> None:
    vehicle = "5YGB3YPRC3ZTVCXKPYXKGJTBSE"
    record = logging.LogRecord(
        f"gateway.uplink.mqtt_uplink.{vehicle}",
        logging.WARNING,
        __file__,
        1,
        "= a strange\nline about %s",
        ("4711",),
        None,
    )
    record.created = 1_800_000_000.25
    record.msg_id = "ab" * 16

    text = StructuredFormatter().format(record)

    assert "\n" not in text
    assert json.loads(text) == {
        "time": "2027-01-15T08:00:00.250Z",
        "level": "warning",
        "logger": f"gateway.uplink.mqtt_uplink.{vehicle}",
        "event": "a_strange_line_about",
        "message": "= a strange\nline about 4711",
        "car": vehicle,
        "msg_id": "ab" * 16,
    }


def test_an_exception_stays_within_its_line() -> None:
    with pytest.raises(ValueError, match="invalid") as caught:
        int("odd")
    record = logging.LogRecord(
        "freefloat.bridge",
        logging.ERROR,
        __file__,
        1,
        "= an observer failed",
        (),
        (caught.type, caught.value, caught.tb),
    )

    text = StructuredFormatter().format(record)

    assert "\n" not in text
    assert "ValueError: invalid" in json.loads(text)["exception"]


def test_alembic_tells_of_changed_tables_and_not_of_each_look(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", logging.INFO)
    configure_log(level=logging.INFO, text="%(message)s", is_structured=False)
    alembic = logging.getLogger("alembic.runtime.migration")
    # What one that ran earlier in this process disabled.
    monkeypatch.setattr(alembic, "disabled", False)
    monkeypatch.setattr(alembic, "level", logging.INFO)
    for line in ("Context impl %s.", "Will assume %s DDL.", "Running upgrade %s"):
        alembic.info(line, "X")

    assert capsys.readouterr().err == "Running upgrade X\n"
