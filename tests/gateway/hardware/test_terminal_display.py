"""The display of a module without one: its lines and its silence about secrets."""

import asyncio
import logging
import os
from collections.abc import Iterator

import pytest

from gateway.core.events import (
    DestinationEntered,
    Event,
    MenuChosen,
    PinEntered,
)
from gateway.core.prompts import Choice, Prompt, PromptKey
from gateway.hardware.terminal_display import TerminalDisplay, parse_line
from tests.gateway.hardware.ear import running


@pytest.fixture
def keyboard() -> Iterator[tuple[int, int]]:
    """What the display reads from, and what a test types into."""
    read, write = os.pipe()
    yield read, write
    os.close(read)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("pin 1234", PinEntered("1234")),
        ("  PIN 0000 ", PinEntered("0000")),
        ("pin abcd", PinEntered("abcd")),
        ("park", MenuChosen(Choice.PARK)),
        ("end", MenuChosen(Choice.END)),
        ("Refuel  done", MenuChosen(Choice.REFUEL_DONE)),
        ("paid by card", MenuChosen(Choice.PAID_BY_CARD)),
        ("destination Elm  Street", DestinationEntered("Elm Street")),
        ("destination", None),
        ("pin", None),
        ("pin 1 2", None),
        ("open sesame", None),
        ("", None),
    ],
)
def test_a_line_is_a_pin_or_a_choice_or_nothing(
    line: str, expected: Event | None
) -> None:
    assert parse_line(line) == expected


async def test_typed_lines_are_reported_in_order_and_the_end_of_input_is_no_end(
    keyboard: tuple[int, int],
) -> None:
    read, write = keyboard

    async with running(TerminalDisplay(read).run) as ear:
        os.write(write, b"pin 12")
        await asyncio.sleep(0)
        os.write(write, b"34\nhelp\n" + b"x" * 5_000 + b"\nend\n")
        os.close(write)
        await ear.hear(MenuChosen)

    assert ear.events == [PinEntered("1234"), MenuChosen(Choice.END)]


async def test_a_prompt_is_logged_without_its_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)

    async with running(TerminalDisplay().run) as ear:
        await TerminalDisplay().show(
            Prompt(PromptKey.FUEL_CARD_PIN, numbers=(3,)), secret="4711"
        )

    assert "fuel-card-pin 3" in caplog.text
    assert "4711" not in caplog.text
    assert ear.events == []
