"""The display's words: every language says everything, and fills every place."""

import tomllib
from importlib.resources import files
from string import Formatter

import pytest

from gateway.catalogue.words import LANGUAGES, catalogue_of, menu_of, words_of
from gateway.core.bearing import Compass
from gateway.core.prompts import Choice, Form, Line, LineKey, Prompt, PromptKey, term_of
from gateway.core.screens import LINES, SCREENS, Screen
from protocol.codes import EnergyKind, LockDefault
from protocol.rental_codes import DamageKind, DamagePlace, ServiceKind

TERMS = {
    term_of(code)
    for space in (
        DamagePlace,
        DamageKind,
        LockDefault,
        ServiceKind,
        Compass,
        EnergyKind,
    )
    for code in space
}
SECTIONS = ("prompts", "lines", "choices", "forms", "terms")


def texts(language: str) -> dict[str, dict[str, str]]:
    return tomllib.loads(
        files("gateway.catalogue").joinpath(f"{language}.toml").read_text("utf-8")
    )


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def places_of(row: Screen) -> set[str]:
    """What a row of the core's table promises to fill."""
    return {
        *map(str, range(row.numbers)),
        *(f"word{place}" for place in range(row.words)),
        *(f"term{place}" for place in range(row.terms)),
        *(("secret",) if row.has_secret else ()),
    }


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("section", SECTIONS)
def test_every_language_has_the_keys_of_english(language: str, section: str) -> None:
    assert texts(language)[section].keys() == texts("en")[section].keys()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("section", SECTIONS)
def test_every_language_has_the_places_of_english(language: str, section: str) -> None:
    english = texts("en")[section]
    for key, text in texts(language)[section].items():
        assert places(text) == places(english[key]), key


def test_english_has_a_text_for_everything_that_the_core_can_say() -> None:
    english = texts("en")
    assert english["prompts"].keys() == {key.value for key in PromptKey}
    assert english["lines"].keys() == {key.value for key in LineKey}
    assert english["choices"].keys() == {choice.value for choice in Choice}
    assert english["forms"].keys() == {form.value for form in Form}
    assert english["terms"].keys() == TERMS


def test_a_text_has_the_places_that_the_core_fills() -> None:
    english = texts("en")
    for key in PromptKey:
        assert places(english["prompts"][key.value]) == places_of(SCREENS[key]), key
    for line in LineKey:
        assert places(english["lines"][line.value]) == places_of(LINES[line]), line


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_language_leaves_a_text_empty(language: str) -> None:
    for section, entries in texts(language).items():
        for key, text in entries.items():
            assert text or (section, key) == ("prompts", "none"), key


def test_a_prompt_speaks_the_language_of_its_customer() -> None:
    prompt = Prompt(PromptKey.PIN_WRONG, (2,), language=b"de")

    assert words_of(prompt) == "Falsche PIN, übrige Versuche: 2"


def test_a_language_that_nobody_translated_speaks_english() -> None:
    assert catalogue_of(b"fi") == catalogue_of(b"en")


def test_a_list_stands_below_its_prompt_and_an_empty_note_leaves_no_trace() -> None:
    # C9: known damage is told by place, kind and note
    terms = (term_of(DamagePlace.LEFT), term_of(DamageKind.SCRATCH))
    prompt = Prompt(
        PromptKey.NOT_NOW,
        lines=(
            Line(LineKey.DAMAGE, words=("below the handle",), terms=terms),
            Line(LineKey.DAMAGE, words=("",), terms=terms),
        ),
    )

    assert words_of(prompt).splitlines() == [
        "Not possible now",
        "left side, scratch: below the handle",
        "left side, scratch",
    ]


def test_the_fuel_cards_pin_is_in_the_words_only_when_it_is_given() -> None:
    # H6
    prompt = Prompt(PromptKey.FUEL_CARD_PIN)

    assert "4711" in words_of(prompt, secret="4711")
    assert "4711" not in words_of(prompt)


def test_menus_and_forms_have_words() -> None:
    german = catalogue_of(b"de")

    assert german.offer(Choice.PAID_BY_CARD) == "Mit Karte bezahlt"
    assert german.ask(Form.PIN) == "Ihre PIN"


def test_what_can_be_answered_is_said_in_the_language_of_the_prompt() -> None:
    # C9, C16: forms first, then the choices in the order of the menu
    assert menu_of(Prompt(PromptKey.RATE_CLEANLINESS, language=b"de")) == (
        "Sterne innen und außen, 1 bis 5",
        "Ihre PIN",
        "Weiter",
        "Schaden melden",
        "Miete beenden",
        "Parken",
    )
    assert menu_of(Prompt(PromptKey.CLOSE_DOORS)) == ()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("key", list(PromptKey))
def test_a_prompt_has_words_even_without_what_its_places_stand_for(
    key: PromptKey, language: str
) -> None:
    text = words_of(Prompt(key, language=language.encode()))

    assert "{" not in text
    assert ("?" in text) >= (SCREENS[key].numbers > 0)
