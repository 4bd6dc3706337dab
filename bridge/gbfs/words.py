"""What every feed of GBFS 3.0 is written with."""

from bridge.publication import GbfsSettings

Document = dict[str, object]


def text_in(settings: GbfsSettings, text: str) -> list[Document]:
    """Return a text for people in the operator's language."""
    return [{"text": text, "language": settings.language}]
