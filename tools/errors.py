"""What a command tells the person who started it when it cannot do its work.

Two lines on stderr: what is wrong, and what to do. A command raises `OperatorError`
itself, or lets an error of the packages below pass: those carry `retryable` and
`may_have_taken_effect`, and an `advice` where they know one. Anything else is a defect
of freefloat and keeps its traceback.
"""

import errno
from dataclasses import dataclass
from typing import Final

EXIT_FAILED: Final = 1
"""The command was understood and could not be carried out."""

EXIT_DEFECT: Final = 70
"""freefloat itself failed: EX_SOFTWARE of sysexits.h."""

EXIT_INTERRUPTED: Final = 130
"""Ended by Ctrl-C: 128 + SIGINT, as shells count."""


class OperatorError(Exception):
    """Something that the person at the terminal can put right.

    Subclass it where a caller distinguishes; `sentence` and `advice` are all that is
    shown.
    """

    def __init__(
        self, sentence: str, advice: str = "", *, exit_code: int = EXIT_FAILED
    ) -> None:
        """Keep what is wrong (lower case, no full stop) and what to do about it."""
        super().__init__(sentence)
        self.sentence = sentence
        self.advice = advice
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is shown of an error."""

    sentence: str
    """What is wrong."""
    advice: str
    """What to do; may be empty."""
    exit_code: int
    """Of the process."""


_OS_ADVICE: Final = {
    errno.EACCES: "check owner and mode of that path, or run as the user who owns it",
    errno.EPERM: "check owner and mode of that path, or run as the user who owns it",
    errno.EROFS: "choose a directory on a file system that can be written",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path: a part of it is a file",
    errno.EISDIR: "name a file, not a directory",
    errno.EEXIST: "move it away or choose another path; nothing is overwritten",
    errno.ENOSPC: "free some space on that disk, then try again",
    errno.EADDRINUSE: "choose another port, or end the program that uses this one",
    errno.EADDRNOTAVAIL: "use an address of this machine, such as 127.0.0.1",
    errno.ECONNREFUSED: "start the server, or check host and port",
    errno.EMFILE: "raise the limit of open files: ulimit -n 8192",
}


def explain(error: BaseException) -> Explanation | None:
    """Return what to show of an error, or None if it is a defect of freefloat.

    Errors of the packages below are recognised by the two answers that all of them
    give, so that explaining one imports none of them.
    """
    if isinstance(error, OperatorError):
        return Explanation(error.sentence, error.advice, error.exit_code)
    if hasattr(error, "retryable") and hasattr(error, "may_have_taken_effect"):
        advice = getattr(error, "advice", "") or _package_advice(error)
        return Explanation(str(error), advice, EXIT_FAILED)
    if isinstance(error, OSError) and error.errno is not None:
        reason = (error.strerror or "input or output failed").lower()
        sentence = f"{error.filename}: {reason}" if error.filename else reason
        return Explanation(sentence, _OS_ADVICE.get(error.errno, ""), EXIT_FAILED)
    return None


def _package_advice(error: BaseException) -> str:
    advice = []
    if getattr(error, "may_have_taken_effect", False):
        advice.append("it may have taken effect: look at the result before repeating")
    elif getattr(error, "retryable", False):
        advice.append("nothing was done; try again")
    return "; ".join(advice)
