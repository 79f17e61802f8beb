"""What Vertex AI answers when it does not do what it was asked, in words that say what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from registry.errors import EndpointError

_USER = "roles/aiplatform.user"
_PASSING = {"UNAVAILABLE", "INTERNAL", "ABORTED", "DEADLINE_EXCEEDED", "UNKNOWN"}
_BY_HTTP = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_BY_CODE = {
    1: "CANCELLED",
    2: "UNKNOWN",
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    16: "UNAUTHENTICATED",
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request: what it was to do, in words that follow "to", and what that needs.

    Args:
        words: Such as ``deploy digits:v3``.
        permission: The IAM permission, such as ``aiplatform.endpoints.deploy``.
        project: Where it was asked for.
    """

    words: str
    permission: str
    project: str


class VertexError(EndpointError):
    """Vertex AI did not do what it was asked; ``status`` is its word for why, such as ``NOT_FOUND``."""

    def __init__(self, message: str, *, status: str) -> None:
        """Keep the words and the status."""
        self.status = status
        super().__init__(message)


class PassingError(VertexError):
    """An answer, or none, after which the same may be tried again: what was asked may have been done or not."""


class OperationFailedError(VertexError):
    """Something was begun, took its time, and failed; nothing tries it again by itself."""


def of_exception(error: Exception, asked: Asked) -> VertexError:
    """Return what one of Google's client errors, or of the connection's, says."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError, TransportError

    if isinstance(error, GoogleAPICallError):
        return refusal(*_told(error.response, error.code, str(error.message)), asked)
    if isinstance(error, GoogleAuthError) and not isinstance(error, TransportError):
        return VertexError(
            f"Vertex AI was not asked to {asked.words}, because there are no credentials: {_line(str(error))} "
            f"Run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS.",
            status="UNAUTHENTICATED",
        )
    return PassingError(
        f"Vertex AI did not answer when it was asked to {asked.words}: {_line(str(error) or type(error).__name__)} "
        f"Whether it was done is not known; the same again finds out.",
        status="UNAVAILABLE",
    )


def of_response(response: Any, asked: Asked) -> VertexError:
    """Return what an HTTP answer says that is none of 200."""
    return refusal(*_told(response, response.status_code, response.text), asked)


def _told(response: Any, code: int | None, words: str) -> tuple[str, str]:
    """Return the canonical status of a refusal and the service's own words, or those of the container behind it.

    One HTTP status stands for several: 400 for an invalid argument and for a state that does not allow it, 409 for what
    exists and for what was aborted. The word is in the body, which Google's client leaves on the response alone.
    """
    status = _BY_HTTP.get(code or 0, "UNKNOWN")
    try:
        told = response.json()["error"]
        return (status, told) if isinstance(told, str) else (str(told.get("status") or status), str(told["message"]))
    except (AttributeError, KeyError, TypeError, ValueError):
        return status, words


def refusal(status: str, said: str, asked: Asked) -> VertexError:
    """Return an error for one of the service's canonical statuses, with its own words and what to do."""
    start = f"Vertex AI refused to {asked.words} ({status}): {_line(said)} "
    if status in _PASSING:
        return PassingError(
            f"Vertex AI could not {asked.words} ({status}): {_line(said)} Run the same again: it goes on from there.",
            status=status,
        )
    return VertexError(start + _advice(status, said, asked), status=status)


def failed(code: int, said: str, asked: Asked) -> OperationFailedError:
    """Return an error for an operation that ended with ``code`` of google.rpc.Code."""
    status = _BY_CODE.get(code, "UNKNOWN")
    return OperationFailedError(
        f"Vertex AI began to {asked.words} and it failed ({status}): {_line(said)} {_advice(status, said, asked)}",
        status=status,
    )


def _advice(status: str, said: str, asked: Asked) -> str:
    if status == "RESOURCE_EXHAUSTED":
        return (
            f"A quota of project {asked.project} is used up: `modelway endpoints stop` what is not needed, take a "
            f"smaller machine or another region, or ask for more under IAM & Admin > Quotas. What serves is as it was."
        )
    if status == "PERMISSION_DENIED":
        return _permission(said, asked)
    if status == "UNAUTHENTICATED":
        return "The credentials are not accepted: run `gcloud auth application-default login` again."
    if status == "NOT_FOUND":
        return "Look at the project, the region and the names in the endpoint's settings."
    if status in {"FAILED_PRECONDITION", "INVALID_ARGUMENT"}:
        return f"What a container wrote stands in Cloud Logging of project {asked.project}."
    return "`modelway endpoints drift` shows what is there."


def _permission(said: str, asked: Asked) -> str:
    if "has not been used" in said or "is disabled" in said:
        return f"Run `gcloud services enable aiplatform.googleapis.com --project={asked.project}`."
    role, permission = _USER, asked.permission
    if "actAs" in said:
        role, permission = "roles/iam.serviceAccountUser", "iam.serviceAccounts.actAs"
    return (
        f"The role {role} is missing, which gives {permission}: "
        f"`gcloud projects add-iam-policy-binding {asked.project} --role={role} --member=...`."
    )


def _line(said: str) -> str:
    """Return the first line of some words, with a full stop at its end."""
    first = said.strip().splitlines()[0] if said.strip() else "no reason was given"
    return first if first.endswith((".", "!", "?")) else f"{first}."
