"""A broken invariant of a seed."""


class Violation(AssertionError):  # noqa: N818 - it is a finding, no error of the program
    """Names the invariant of reliability.md section 4, and what was seen."""
