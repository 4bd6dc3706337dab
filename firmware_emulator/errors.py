"""What can go wrong in the emulator.

::

    EmulatorError
    +-- DeedError          a driver tried what a car does not let happen
    +-- ScriptError        a script cannot be read
    +-- StepError          a step of a script did not come about
    +-- DemandError        a fleet service or its API did not do as asked

The gateway under test never sees any of them.
"""


class EmulatorError(Exception):
    """Root of the emulator's errors."""

    retryable = False
    """Whether doing the same again can help."""
    may_have_taken_effect = False
    """Whether something may have happened all the same."""
    advice = ""
    """What to do next; shown below the sentence."""


class DeedError(EmulatorError):
    """A driver tried what is physically impossible; the car is unchanged."""


class ScriptError(EmulatorError):
    """A script cannot be read; nothing of it was played."""


class StepError(EmulatorError):
    """A step did not come about in its time; the message says what was missing.

    The car is as the step left it: what was done stays done.
    """

    may_have_taken_effect = True


class DemandError(EmulatorError):
    """A fleet service or its API did not do as asked."""

    may_have_taken_effect = True
