"""What a person reads at a terminal of 80 columns."""

import os
import subprocess
import sys
from typing import Final

from tests.tools.command_line import SOURCES

PROGRAM: Final = """
from tools.story import Story
story = Story()
story.line("the fleet service reserves the car for Anna",
           "card ...a7f2, PIN and fuel card PIN sealed")
story.line("short", "beside it")
story.check("webhook signature holds; counted once (deliveries: 1, lines in the "
            "event file: 1)")
"""


def lines_at_a_terminal(columns: int) -> list[str]:
    ours, theirs = os.openpty()
    subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(SOURCES), "COLUMNS": str(columns)},
        stdout=theirs,
        timeout=30,
        check=True,
    )
    os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        text = terminal.read(65_536).decode()
    plain = text.replace("\x1b[0m", "").replace("\x1b[2m", "").replace("\x1b[32m", "")
    return plain.splitlines()


def test_no_line_is_wider_than_the_terminal_and_no_word_is_broken() -> None:
    lines = lines_at_a_terminal(80)

    assert max(map(len, lines)) <= 80
    assert lines[1] == " " * 10 + "card ...a7f2, PIN and fuel card PIN sealed"
    assert lines[2].endswith("short  beside it")
    assert lines[-1] == " " * 14 + "event file: 1)"


def test_a_wide_terminal_gets_a_line_for_each_thing() -> None:
    assert len(lines_at_a_terminal(200)) == 3
