"""Texts that the fleet can have shown at the display, by number (SHOW_MESSAGE).

A number and arguments, no sentence: the car says it in the language of its driver. The
text passes by like any other word to the driver, covers a screen for as long as the
fleet says and takes no answer. Numbers are never used again for another text.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gateway.core.prompts import Prompt, PromptKey
from gateway.core.screens import SCREENS
from gateway.core.turn import Turn
from protocol.codes import Code
from protocol.command import ShowMessage

MESSAGES: Final[Mapping[int, PromptKey]] = MappingProxyType(
    {
        1: PromptKey.MESSAGE_CALL_US,
        2: PromptKey.MESSAGE_BRING_BACK,
        3: PromptKey.MESSAGE_PARK_AT,
        4: PromptKey.MESSAGE_HELP_COMES,
        5: PromptKey.MESSAGE_DRIVE_NO_MORE,
    }
)
"""Text key on the wire, and what it says."""


def show_message(turn: Turn, command: ShowMessage) -> Code:
    """Show a text; BAD_PARAM if there is none of this number, or with other places."""
    key = MESSAGES.get(command.text_key)
    if key is None or len(command.arguments) != SCREENS[key].words:
        return Code.BAD_PARAM
    turn.notify(Prompt(key, words=command.arguments), command.seconds * 1_000)
    return Code.OK
