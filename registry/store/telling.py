"""From a cloud client's error to ours: unreachable, forbidden and not found are three things, each with its mend."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

from registry.errors import InvalidInputError, StoreError, StoreForbiddenError, StoreUnreachableError
from registry.store.bucket import MISSING_BUCKET, Answer, Bucket, Refused
from registry.store.contract import AlreadyExistsError

_BUSY = {408, 429}
_SLOW = {"RequestTimeout", "SlowDown", "OperationTimedOut", "ServerBusy"}
_CLOCK = {"RequestTimeTooSkewed"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
_UNKNOWN = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidSecurity", "AuthenticationFailed"}
_REGION = {
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "PermanentRedirect",
    "Redirect",
    "TemporaryRedirect",
}


class ContendedError(StoreError):
    """Another writer was in the way just then, and nobody is known to have won: the same write may go again."""


class OutOfRangeError(StoreError):
    """An object has no bytes where they were asked for: it is empty, or shorter than that."""


def told(error: BaseException, kind: type[Bucket], url: str, what: str, deadline_s: float) -> BaseException:  # noqa: PLR0911 - one for each kind of error
    """Return the error to raise for one of the client's; the same one if it is not the client's at all.

    Args:
        error: What the client raised.
        kind: Whose client it was.
        url: The store, for errors that concern it as a whole.
        what: The address of the key, or what else was asked for.
        deadline_s: How long the client had.
    """
    if isinstance(error, (StoreError, InvalidInputError)):
        return error
    chain = list(_chain(error))
    for link in chain:
        if answer := link.answer if isinstance(link, Refused) else kind.answer(link):
            return _answered(answer, kind, url, what)
    if isinstance(error, TimeoutError):
        return StoreUnreachableError(
            f"{url} did not answer within {deadline_s:g} s, with all repeats. Check the address and the network; "
            f"deadline_s in storage_options sets how long to wait."
        )
    if any(kind.lacks_credentials(link) for link in chain):
        return StoreForbiddenError(f"{url}: there are no usable credentials ({_first_line(error)}). {kind.mend}")
    if isinstance(error, OSError) or any(kind.broke_off(link) for link in chain):
        return StoreUnreachableError(f"{url} cannot be reached: {_why(chain)}")
    if isinstance(error, (TypeError, ValueError)) and "argument" in str(error):
        return InvalidInputError(f"{url}: {kind.package} does not take these storage_options: {_first_line(error)}")
    return error


def _answered(answer: Answer, kind: type[Bucket], url: str, what: str) -> Exception:  # noqa: PLR0911 - one for each kind of answer
    said = f"{answer.status} {answer.code}".strip() + (f": {answer.message}" if answer.message else "")
    if answer.code == MISSING_BUCKET:
        return StoreError(
            f"{url}: there is no such {kind.wording}. Registries do not make one: create it, or correct the URL."
        )
    if answer.code in _REGION or answer.status in {301, 307}:
        return StoreError(
            f"{url}: the {kind.wording} lies in another region ({said}). Give its region in storage_options: "
            f'client_kwargs={{"region_name": ...}}.'
        )
    if answer.status == 404:  # noqa: PLR2004 - a status of HTTP, as all numbers here
        return FileNotFoundError(what)
    if answer.status == 412:  # noqa: PLR2004
        return AlreadyExistsError(f"{what} exists already and is never overwritten.")
    if answer.status == 409:  # noqa: PLR2004
        return ContendedError(f"{what}: another writer was in the way ({said}). Repeat it.")
    if answer.status == 416:  # noqa: PLR2004
        return OutOfRangeError(f"{what} has no such bytes.")
    if answer.status in {401, 403} or answer.code in _EXPIRED | _UNKNOWN | _CLOCK:
        return StoreForbiddenError(f"{what}: {_forbidden(answer, kind)} ({said})")
    if answer.status in _BUSY or answer.code in _SLOW or answer.status >= 500:  # noqa: PLR2004
        return StoreUnreachableError(f"{url} is overloaded or out of order, and repeating did not help ({said}).")
    return StoreError(f"{what}: the storage refused ({said}).")


def _forbidden(answer: Answer, kind: type[Bucket]) -> str:
    if answer.code in _CLOCK:
        return "this machine's clock is too far off for the storage; set it"
    if answer.code in _EXPIRED:
        return "the credentials have expired; renew them"
    if answer.code in _UNKNOWN or answer.status == 401:  # noqa: PLR2004
        return f"the storage does not know these credentials. {kind.mend}"
    return "these credentials may not do this; docs/storage.md lists the rights that a registry needs"


def _why(chain: list[BaseException]) -> str:
    kinds = " ".join(type(link).__name__ for link in chain)
    last = _first_line(chain[-1]) or _first_line(chain[0])
    if any(isinstance(link, ssl.SSLError) for link in chain) or "Certificate" in kinds or "SSL" in kinds:
        return f"the TLS connection failed ({last}). Is it the right address, and is its certificate trusted here?"
    if any(isinstance(link, socket.gaierror) for link in chain) or "DNS" in kinds:
        return f"its name cannot be resolved ({last}). Check the address and the network."
    return f"{last or kinds}. Check the address, the network and any proxy."


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
