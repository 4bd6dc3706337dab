"""Turns prompts into sentences (`gateway.core.prompts`), by one file for each language.

A catalogue is a TOML file beside this one, so that a translator needs no Python. It has
a text for every prompt, line, choice, form and term; a test compares all of them with
English, places included. A language that nobody has translated speaks English.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Formatter
from typing import Final

from gateway.core.prompts import Choice, Form, Line, Prompt
from gateway.core.screens import SCREENS

LANGUAGES: Final = ("en", "de", "ru")
"""Two letters of ISO 639-1; each has a file."""

HIDDEN: Final = "****"
"""Stands for the fuel card's PIN where it is not to be read (H6)."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The texts of one language."""

    prompts: Mapping[str, str]
    """By `PromptKey`."""
    lines: Mapping[str, str]
    """By `LineKey`."""
    choices: Mapping[str, str]
    """By `Choice`."""
    forms: Mapping[str, str]
    """By `Form`: what is to be filled in."""
    terms: Mapping[str, str]
    """By `gateway.core.prompts.term_of`."""

    def say(self, prompt: Prompt, *, secret: str = HIDDEN) -> str:
        """Return a prompt's sentence, its lines below it.

        Args:
            prompt: what is to be said.
            secret: the fuel card's PIN, if it may be read here.
        """
        text = self._fill(
            self.prompts[prompt.key.value],
            prompt.numbers,
            prompt.words,
            prompt.terms,
            secret,
        )
        return "\n".join((text, *(self.line(line) for line in prompt.lines)))

    def line(self, line: Line) -> str:
        """Return the sentence of one line."""
        text = self.lines[line.key.value]
        return self._fill(text, line.numbers, line.words, line.terms, "").rstrip(": ")

    def offer(self, choice: Choice) -> str:
        """Return the words of a choice in a menu."""
        return self.choices[choice.value]

    def ask(self, form: Form) -> str:
        """Return what is to be filled in."""
        return self.forms[form.value]

    def _fill(
        self,
        text: str,
        numbers: tuple[int, ...],
        words: tuple[str, ...],
        terms: tuple[str, ...],
        secret: str,
    ) -> str:
        named = {f"word{place}": word for place, word in enumerate(words)}
        named |= {
            f"term{place}": self.terms.get(term, term)
            for place, term in enumerate(terms)
        }
        return _FORMATTER.format(text, *numbers, secret=secret, **named)


class _Lenient(Formatter):
    """Shows a question mark where a place has nothing to stand for."""

    def get_value(
        self, key: int | str, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> object:
        """Return what a place stands for; a display never fails for want of it."""
        try:
            return super().get_value(key, args, kwargs)
        except LookupError:
            return "?"


_FORMATTER: Final = _Lenient()


@cache
def catalogue_of(language: bytes) -> Catalogue:
    """Return the catalogue of a language, English for one that nobody has translated.

    Args:
        language: two letters of ISO 639-1, as a reservation tells them.
    """
    name = language.decode("ascii", "replace")
    if name not in LANGUAGES:
        name = LANGUAGES[0]
    text = files(__package__).joinpath(f"{name}.toml").read_text("utf-8")
    return Catalogue(**tomllib.loads(text))


def words_of(prompt: Prompt, *, secret: str = HIDDEN) -> str:
    """Return a prompt's sentence in its own language, its lines below it."""
    return catalogue_of(prompt.language).say(prompt, secret=secret)


def menu_of(prompt: Prompt) -> tuple[str, ...]:
    """Return what can be filled in and then what can be chosen, in a menu's order."""
    screen, catalogue = SCREENS[prompt.key], catalogue_of(prompt.language)
    return (*map(catalogue.ask, screen.forms), *map(catalogue.offer, screen.offers))
