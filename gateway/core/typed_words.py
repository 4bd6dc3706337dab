"""Words that a driver types: whether they can be sent, and how many of them could be.

Entries have room for bytes, and a driver thinks in letters: 200 bytes are 200 letters
of English, fewer of German, and 100 of Russian. So what is said to somebody who typed
too much is said of the words that were typed.
"""

from protocol.layout import text_bytes


def can_be_sent(words: str, limit: int) -> bool:
    """Return whether words hold no control characters and fit.

    Args:
        words: as typed.
        limit: bytes in UTF-8.
    """
    try:
        return len(text_bytes(words)) <= limit
    except ValueError:
        return False


def letters_that_fit(words: str, limit: int) -> int:
    """Return how many letters of these words fit; `limit` if they are no words.

    Args:
        words: as typed.
        limit: bytes in UTF-8.
    """
    data = words.encode("utf-8", "surrogatepass")
    if len(data) <= limit:
        return limit
    return len(data[:limit].decode("utf-8", "ignore"))
