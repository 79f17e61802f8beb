"""Every error of modelway, as one tree; each message says what was asked, what was found, what to do next.

ModelwayError
├── InvalidInputError            (ValueError)   the caller asked for something that cannot be
│   ├── InvalidNameError                        a name outside the grammar, or one that is taken by a look-alike
│   ├── InvalidVersionError                     a version label that is neither a number nor semantic
│   ├── InvalidStageError                       a word that names no stage
│   ├── InvalidPipelineError                    a YAML file with a wrong key, type or entry point; names the line
│   └── MissingExtraError                       a dependency is not installed; names the extra
├── NotFoundError                (LookupError)  it was looked for, the store answered, it is not there
│   ├── ModelNotFoundError
│   ├── VersionNotFoundError
│   ├── ArtifactNotFoundError
│   └── EndpointNotFoundError
├── RefusedError                                it exists, and the rules say no; nothing was changed
│   ├── IllegalTransitionError
│   ├── PolicyFailed
│   ├── ApprovalRequired
│   └── VersionInUseError
├── ConflictError                               somebody else was first
│   ├── VersionExistsError
│   ├── StaleExpectationError                   `expect_current` or an approval no longer fits
│   └── UnknownOutcomeError                     a write was sent and its answer was lost
├── IntegrityError                              bytes are not what the log says they are
├── StoreError                                  the storage did not do what it was asked
│   ├── StoreUnreachableError
│   ├── StoreForbiddenError
│   └── FormatError                             a stored record that cannot be read by this release
├── EngineError                                 an engine could not be exported, built or run
│   └── NotHereError                            it was built, and cannot run on this machine
└── EndpointError                               a serving process could not be started, reached or stopped
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


class ModelwayError(Exception):
    """Base of all errors raised on purpose; ``exit_code`` is what the command line ends with."""

    exit_code = 1


class InvalidInputError(ModelwayError, ValueError):
    """The request itself is malformed; nothing was looked up."""

    exit_code = 2


class InvalidNameError(InvalidInputError):
    """A model, alias or endpoint name outside the grammar."""


class InvalidVersionError(InvalidInputError):
    """A version label that is neither a number nor a semantic version."""


class InvalidStageError(InvalidInputError):
    """A word that names no stage."""


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong in a file of settings; empty or None is what is not known of its place.

    ``line`` counts from 1; ``key`` is the way to the key from the top of the file, with dots between.
    """

    file: str
    line: int | None
    key: str
    words: str

    def __str__(self) -> str:
        """Return it as one line: ``file:line: key: words``."""
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (where, self.key, self.words) if part)


class InvalidPipelineError(InvalidInputError):
    """A pipeline file, or a policy or spec as one holds it, that cannot be used; the message names file and line."""

    def __init__(self, message: str, problems: Sequence[Mistake] = ()) -> None:
        """Keep what is wrong as records too; none where it is not in a file."""
        self.problems = tuple(problems)
        super().__init__(message)

    @classmethod
    def listing(cls, problems: Sequence[Mistake]) -> Self:
        """Return one error that tells all problems, at least one, under the name of the file that they are in."""
        if len(problems) == 1:
            return cls(str(problems[0]), problems)
        listed = "\n".join(f"  {problem}" for problem in problems)
        return cls(f"{problems[0].file} has {len(problems)} mistakes:\n{listed}", problems)


class MissingExtraError(InvalidInputError):
    """A dependency that is an extra is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        """Name the package that is missing, the extra that brings it, and what wanted it."""
        self.package, self.extra = package, extra
        super().__init__(f"{purpose} needs {package}, which is not installed: pip install 'modelway[{extra}]'")


class NotFoundError(ModelwayError, LookupError):
    """The storage answered, and what was asked for is not there."""


def did_you_mean(near: Sequence[str]) -> str:
    """Return ``" Did you mean ...?"`` with words that are close to one that was not found, or nothing without any."""
    return f" Did you mean {' or '.join(near)}?" if near else ""


class ModelNotFoundError(NotFoundError):
    """No model of that name."""

    def __init__(self, name: str, near: Sequence[str] = (), *, root: str = "") -> None:
        """Name the model asked for and those with a similar name."""
        self.name, self.near = name, tuple(near)
        where = f" in {root}" if root else ""
        mend = did_you_mean(near) or " `modelway models list` shows what there is."
        super().__init__(f"no model {name!r}{where}.{mend}")


class VersionNotFoundError(NotFoundError):
    """The model exists, the version does not."""

    def __init__(self, name: str, version: str, known: Sequence[str] = ()) -> None:
        """Name what was asked for and the newest labels that exist."""
        self.name, self.version, self.known = name, version, tuple(known)
        found = f"It has: {', '.join(known[-8:])}." if known else "It has no versions yet."
        super().__init__(f"{name} has no version {version!r}. {found}")


class ArtifactNotFoundError(NotFoundError):
    """A file or folder given as artifact does not exist, or a version has none."""


class EndpointNotFoundError(NotFoundError):
    """No endpoint of that name."""

    def __init__(self, name: str, near: Sequence[str] = ()) -> None:
        """Name the endpoint asked for and those that exist."""
        self.name = name
        mend = did_you_mean(near) or " `modelway endpoints list` shows what there is."
        super().__init__(f"no endpoint {name!r}.{mend}")


class RefusedError(ModelwayError):
    """The rules say no; nothing was changed."""


class IllegalTransitionError(RefusedError):
    """A move that the stages do not allow."""


class PolicyFailed(RefusedError):  # noqa: N818 - the public interface names it so
    """A version does not meet what a policy asks for."""

    exit_code = 3

    def __init__(self, full_name: str, stage: str, failures: Sequence[str]) -> None:
        """List every failure, not only the first."""
        self.failures = tuple(failures)
        listed = "\n".join(f"  - {failure}" for failure in failures)
        super().__init__(f"{full_name} does not meet the policy for {stage}; nothing was changed:\n{listed}")


class ApprovalRequired(RefusedError):  # noqa: N818 - the public interface names it so
    """The move needs a person's approval that is not there, or not acceptable."""

    exit_code = 4


class VersionInUseError(RefusedError):
    """A version that production, an alias or an endpoint still needs."""


class ConflictError(ModelwayError):
    """Somebody else was first."""

    exit_code = 5


class VersionExistsError(ConflictError):
    """An explicit version label is already taken."""


class StaleExpectationError(ConflictError):
    """What the caller expected to be current no longer is."""


class UnknownOutcomeError(ConflictError):
    """A write was sent and whether it arrived cannot be known; the same idempotency key finds out."""


class IntegrityError(ModelwayError):
    """Stored bytes are not what was recorded."""

    exit_code = 6

    def __init__(self, file: str, expected: str, found: str, *, mend: str = "") -> None:
        """Name the file with the digest (or size) that was recorded and the one that was found."""
        self.file, self.expected, self.found = file, expected, found
        mend = mend or "Do not use these bytes: restore the file from a copy, or register the model again."
        super().__init__(f"{file} is not what was recorded: expected {expected}, found {found}. {mend}")


class StoreError(ModelwayError):
    """The storage did not do what it was asked."""


class StoreUnreachableError(StoreError):
    """The storage did not answer in time."""


class StoreForbiddenError(StoreError):
    """The storage answered that these credentials may not do this."""


class FormatError(StoreError):
    """A stored record that this release cannot read."""


class EngineError(ModelwayError):
    """An engine could not be exported, built or run."""


class NotHereError(EngineError):
    """An engine was built, and this is no machine that it can run on."""


class EndpointError(ModelwayError):
    """A serving process could not be started, reached or stopped."""
