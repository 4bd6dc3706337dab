"""What can be said to an emulated car: scripts are read whole and strictly."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_emulator.errors import ScriptError
from firmware_emulator.spoken import VERBS, parse_line, parse_script

DAY = """
# a rental
tap
expect unlocked
expect entry RentalStarted
in
pin
start
drive 120          # metres
stop
out
TAP
expect light green
"""


def test_a_script_is_read_without_its_comments() -> None:
    texts = [line.text for line in parse_script(DAY)]

    assert texts[0] == "tap"
    assert texts[6] == "drive 120"
    assert len(texts) == 11


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("fly", "'fly' is no deed: say one of tap"),
        ("drive", "takes one word, not 0; say 'drive METRES'"),
        ("drive x", "'x' is no number"),
        ("drive nan", "nan is not within"),
        ("drive -5", "-5 is not within 1 and 100000"),
        ("wait 1e9", "not within 0 and 86400"),
        ("tap twice", "'twice' is too much"),
        ("link sideways", "'sideways' is not one of down, up, stall"),
        ("expect", "what can be seen is locked"),
        ("expect light mauve", "after 'light' comes one of off, green"),
        ("expect entry Nothing", "after 'entry' comes one of agentstarted"),
        ("expect display 7", "after 'display' comes one of none"),
    ],
)
def test_what_is_not_understood_is_said_with_what_would_be(text: str, why: str) -> None:
    with pytest.raises(ScriptError, match=why):
        parse_line(text)


def test_a_misspelt_line_is_found_before_anything_is_played() -> None:
    with pytest.raises(ScriptError, match="line 3: 'dirve'"):
        parse_script("tap\nin\ndirve 100\n")


def test_a_script_without_end_is_refused() -> None:
    with pytest.raises(ScriptError, match="10001 lines, at most 10000"):
        parse_script("tap\n" * 10_001)


@given(text=st.text(max_size=200))
def test_any_line_is_read_or_refused_with_one_error(text: str) -> None:
    try:
        parse_script(text)
    except ScriptError as error:
        assert str(error)  # noqa: PT017 - either way must end well


@pytest.mark.parametrize("name", list(VERBS))
def test_every_verb_has_a_usage_that_begins_with_it(name: str) -> None:
    assert VERBS[name].usage.split()[0] == name
    assert VERBS[name].summary


def test_every_script_of_the_manual_can_be_played() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "test-engineers.md").read_text()
    scripts = re.findall(r"```script\n(.*?)```", manual, flags=re.DOTALL)
    inline = re.findall(r"^\| `([a-z]+ [a-z`, ]+)` \|", manual, flags=re.MULTILINE)

    lines = [line for text in scripts for line in parse_script(text)]
    spoken = [parse_line(text) for row in inline for text in row.split("`, `")]

    assert len(lines) >= 8
    assert len(spoken) >= 10
