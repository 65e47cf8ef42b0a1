"""Every error that handgrad raises for a user's mistake, each with its code.

A message says what is wrong, where, why, and what to do. The command prints it as one line and exits with
status 2; in Python it is an ordinary exception. The hundreds of a code name the topic: HG1 words and data,
HG2 gradients, HG4 people's files, HG5 tracing and
judging, HG7 training and run folders, HG9 the installation.
"""

from __future__ import annotations

from typing import ClassVar


class HandgradError(Exception):
    """The base of every error below; ``code`` is its HG code and ``str(error)`` begins with it."""

    code: ClassVar[str] = "HG000"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class WordsNotReadableError(HandgradError):
    """The word list is missing, is a folder, or may not be read."""

    code = "HG101"


class WordsNotTextError(HandgradError):
    """The word list is not UTF-8 text."""

    code = "HG102"


class TooFewWordsError(HandgradError):
    """The word list is empty, or holds a single word."""

    code = "HG103"


class MarkerInWordError(HandgradError):
    """A word holds ``.``, which marks where a word begins and ends."""

    code = "HG104"


class EmptySplitError(HandgradError):
    """The split would leave train, dev or test without a word."""

    code = "HG105"


class DownloadError(HandgradError):
    """The original names list could not be fetched, or what came is not that list."""

    code = "HG106"


class UnknownSymbolError(HandgradError):
    """A word holds a symbol that the vocabulary does not have."""

    code = "HG107"


class NotComparableError(HandgradError):
    """A comparison was asked of something that has no gradient to compare."""

    code = "HG200"


class ReplayError(HandgradError):
    """A traced forward cannot be run again as asked."""

    code = "HG501"


class TraceError(HandgradError):
    """A function cannot be traced."""

    code = "HG502"


class NothingToJudgeError(HandgradError):
    """There is no loss, no gradient, or nothing that belongs together."""

    code = "HG503"


class UnknownCodeError(HandgradError):
    """A page was asked for that does not exist."""

    code = "HG504"


class InvalidOptionError(HandgradError):
    """An option has a value that cannot work."""

    code = "HG701"


class RunExistsError(HandgradError):
    """A new run was asked for in a folder that already holds something."""

    code = "HG702"


class RunNotFoundError(HandgradError):
    """The folder holds no run."""

    code = "HG703"


class RunMismatchError(HandgradError):
    """A run's files, or the options given with ``--resume``, do not belong together."""

    code = "HG704"


class DamagedRunError(HandgradError):
    """A file of a run folder was changed or cut short."""

    code = "HG705"


class DivergedError(HandgradError):
    """The training loss became NaN or infinite."""

    code = "HG706"


class LockStepError(HandgradError):
    """A gradient written by hand differs from autograd's by more than rounding."""

    code = "HG707"


class RunBusyError(HandgradError):
    """Another process is training in this run folder."""

    code = "HG708"


class RunNotWritableError(HandgradError):
    """A file of a run folder cannot be written."""

    code = "HG709"


class FileNotReadableError(HandgradError):
    """The notebook or script is missing, is a folder, or may not be read."""

    code = "HG401"


class FileNotTextError(HandgradError):
    """The notebook or script is not UTF-8 text."""

    code = "HG402"


class NotANotebookError(HandgradError):
    """A file called .ipynb holds no notebook, or one that is not in Python."""

    code = "HG403"


class FileTooLargeError(HandgradError):
    """The notebook or script is larger than anybody writes by hand."""

    code = "HG404"


class NoCodeError(HandgradError):
    """The notebook or script holds nothing that could be run."""

    code = "HG405"


class BrokenSourceError(HandgradError):
    """No part of the notebook or script is valid Python."""

    code = "HG406"


class TimeLimitError(HandgradError):
    """The file ran longer than it may."""

    code = "HG407"


class MemoryLimitError(HandgradError):
    """The file took more memory than it may."""

    code = "HG408"


class ProcessEndedError(HandgradError):
    """The file ended its own process, as `os._exit(3)` does."""

    code = "HG409"


class ProcessKilledError(HandgradError):
    """Somebody else ended the process that ran the file."""

    code = "HG410"


class ProcessCrashedError(HandgradError):
    """The process that ran the file crashed, as by a segmentation fault."""

    code = "HG411"


class NoResultError(HandgradError):
    """The process that ran the file ended without a result."""

    code = "HG412"


class MissingExtraError(HandgradError):
    """An optional dependency is not installed."""

    code = "HG901"


class NoRuleError(HandgradError):
    """An operation has no rule for its derivative yet: the message says where it stands and how to add one."""

    code = "HG505"


class NotDifferentiableError(HandgradError):
    """Nothing can be derived: no value with a gradient reaches the result, or an operation has no gradient there."""

    code = "HG506"


class DeriveError(HandgradError):
    """The backward could not be written: a form that is not covered, or a value that is gone when it is needed."""

    code = "HG507"


class NoLoweringError(HandgradError):
    """An operation has no native form yet: the message says where it stands; the step runs in eager PyTorch instead."""

    code = "HG509"


class CompileError(HandgradError):
    """A step cannot be compiled, or was called with something that does not fit: the message says with what."""

    code = "HG510"


class NotVerifiedError(HandgradError):
    """What was derived does not agree with autograd, and is therefore not shown."""

    code = "HG508"
