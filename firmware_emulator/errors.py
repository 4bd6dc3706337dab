"""What can go wrong in the emulator.

::

    EmulatorError
    +-- DeedError          a driver tried what a car does not let happen
    +-- ScriptError        a script cannot be read
    +-- StepError          a step of a script did not come about
    +-- CarFileError       a car's file cannot be read
    +-- DemandError        a fleet service or its API did not do as asked
        +-- UnansweredError    it did not answer
        +-- UnknownError       it has no such thing

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

    def __init__(self, message: str, advice: str = "") -> None:
        """Keep what is wrong, and what to do if the class does not say it."""
        super().__init__(message)
        if advice:
            self.advice = advice


class DeedError(EmulatorError):
    """A driver tried what is physically impossible; the car is unchanged."""

    advice = "do first what a driver would have to do"


class ScriptError(EmulatorError):
    """A script cannot be read; nothing of it was played."""

    advice = (
        "correct the line; 'help' at the prompt of 'freefloat emulate car' lists all"
    )


class CarFileError(EmulatorError):
    """A car file cannot be read; nothing was started."""

    advice = "remove the file, and another car takes its place"


class StepError(EmulatorError):
    """A step did not come about in its time; the message says what was missing."""

    may_have_taken_effect = True
    advice = "the car is as the step left it; what was done stays done"


class DemandError(EmulatorError):
    """A fleet service or its API did not do as asked; the message says why."""

    advice = "put right what it names, or take another car"


class UnansweredError(DemandError):
    """The API did not answer; what was asked may have been done."""

    retryable = True
    may_have_taken_effect = True
    advice = "start the bridge, or correct the address of its API"


class UnknownError(DemandError):
    """The API has no such thing."""
