"""Reads EMQX's access rules and decides by them as EMQX's documentation and source say.

The file holds Erlang terms, each with a dot behind it. What EMQX knows and our rules do
not use (addresses, qualities of service, retain flags) is refused here and not guessed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Term: TypeAlias = "str | int | tuple[Term, ...] | list[Term]"
"""A word (`Atom`), a text, a number, a tuple or a list."""

Action = Literal["publish", "subscribe"]

_TOKEN: Final = re.compile(
    r'(?P<text>"(?:[^"\\]|\\.)*")|(?P<atom>[a-z]\w*|\'[^\']*\')|(?P<number>\d+)'
    r"|(?P<mark>[{}\[\],.])|(?P<space>\s+|%[^\n]*)"
)


_BEFORE_THE_TOPIC: Final = frozenset(
    {("subscribe", "$share"), ("publish", "$delayed"), ("subscribe", "$delayed")}
)
"""What EMQX takes off, with the word behind it, before it looks at the rules."""


class Atom(str):
    """A word of Erlang's, which is no text."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule."""

    allows: bool
    who: Term
    action: str
    """``publish``, ``subscribe`` or ``all``."""
    topics: tuple[str, ...]
    """Filters, with ``${username}`` and ``${clientid}`` in them."""


def rules_in(text: str) -> tuple[Rule, ...]:
    """Read a file of rules.

    Raises:
        ValueError: it is none, or has what this reader does not know.
    """
    return tuple(map(_rule, _terms(text)))


def is_allowed(
    rules: tuple[Rule, ...], name: str, action: Action, topic: str, *, no_match: bool
) -> bool:
    """Return what EMQX decides about a client whose user name and id are `name`.

    Args:
        rules: in their order; the first that fits counts.
        name: of its certificate.
        action: what it does.
        topic: where, or which filter it subscribes to; judged is what is behind
            ``$share/group/``, and behind ``$delayed/seconds/``.
        no_match: what counts where no rule fits (``authorization.no_match``).
    """
    if (action, topic.split("/", maxsplit=1)[0]) in _BEFORE_THE_TOPIC:
        topic = topic.split("/", 2)[2]
    words = topic.split("/")
    for rule in rules:
        if (
            rule.action in {action, "all"}
            and _is_who(name, rule.who)
            and any(_fits(words, _rendered(f, name)) for f in rule.topics)
        ):
            return rule.allows
    return no_match


def _rendered(topic_filter: str, name: str) -> list[str]:
    text = topic_filter.replace("${username}", name).replace("${clientid}", name)
    return text.split("/")


def _fits(words: list[str], against: list[str]) -> bool:
    for place, word in enumerate(against):
        if word == "#" and place == len(against) - 1:
            return True
        if place == len(words) or word not in {words[place], "+"}:
            return False
    return len(words) == len(against)


def _is_who(name: str, who: Term) -> bool:
    match who:
        case Atom("all"):
            return True
        case (Atom("username" | "user" | "clientid" | "client"), str() as text):
            return text == name
        case (
            Atom("username" | "user" | "clientid" | "client"),
            (Atom("re"), str() as pattern),
        ):
            return re.search(pattern, name) is not None
        case (Atom("and"), list() as several):
            return all(_is_who(name, one) for one in several)
        case (Atom("or"), list() as several):
            return any(_is_who(name, one) for one in several)
        case _:
            raise ValueError(f"not known: who is {who!r}")


def _rule(term: Term) -> Rule:
    match term:
        case (Atom("allow" | "deny") as verdict, Atom("all") as who):
            return Rule(verdict == "allow", who, "all", ("#",))
        case (
            Atom("allow" | "deny") as verdict,
            who,
            Atom("publish" | "subscribe" | "all") as action,
            list() as topics,
        ):
            plain = tuple(str(t) for t in topics if isinstance(t, str))
            if len(plain) != len(topics) or any(t.startswith("eq ") for t in plain):
                raise ValueError(f"not known: topics are {topics!r}")
            _is_who("", who)
            return Rule(verdict == "allow", who, action, plain)
        case _:
            raise ValueError(f"no rule: {term!r}")


def _terms(text: str) -> list[Term]:
    tokens = _tokens(text)
    found = []
    for token in tokens:
        found.append(_term(token, tokens))
        if next(tokens, None) != ("mark", "."):
            raise ValueError("a rule ends with a dot")
    return found


def _term(token: tuple[str, str], tokens: Iterator[tuple[str, str]]) -> Term:
    kind, text = token
    match kind, text:
        case "text", _:
            return re.sub(r"\\(.)", r"\1", text[1:-1])
        case "atom", _:
            return Atom(text.strip("'"))
        case "number", _:
            return int(text)
        case "mark", "{":
            return tuple(_until("}", tokens))
        case "mark", "[":
            return list(_until("]", tokens))
        case _:
            raise ValueError(f"not expected here: {text!r}")


def _until(end: str, tokens: Iterator[tuple[str, str]]) -> Iterator[Term]:
    token = next(tokens, ("mark", "."))
    while token != ("mark", end):
        yield _term(token, tokens)
        token = next(tokens, ("mark", "."))
        if token == ("mark", ","):
            token = next(tokens, ("mark", "."))
        elif token != ("mark", end):
            raise ValueError(f"not expected here: {token[1]!r}")


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    place = 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise ValueError(f"not Erlang: {text[place : place + 20]!r}")
        place = found.end()
        if found.lastgroup is not None and found.lastgroup != "space":
            yield found.lastgroup, found.group()
