"""The requests to Vertex AI, over HTTP: each with a deadline and an error in words, and operations waited for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from tenacity import (
    RetryError,
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
    wait_fixed,
)

from registry.endpoints.vertex import answers
from registry.endpoints.vertex.answers import Asked, OperationFailedError, PassingError, VertexError
from registry.endpoints.vertex.naming import location_of
from registry.errors import MissingExtraError

if TYPE_CHECKING:
    from registry.endpoints.settings import VertexSettings

_log = logging.getLogger(__name__)

_REQUEST_S = 60.0
_TRIES = 6
_PREDICT_TRIES = 3  # users wait for the way back while a new version is asked that does not answer
_SLOWEST_S = 30.0
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"

_Answer = TypeVar("_Answer")


class Service:
    """What is asked of Vertex AI in one region of one project; nothing is imported or sent before the first request.

    Always over HTTP, so that what the tests see is what runs. Google's own retries are off: a request that changes
    something is tried again only after another look, by ``converge``.
    """

    def __init__(self, settings: VertexSettings, *, credentials: Any = None) -> None:
        """Take where to ask.

        Args:
            settings: The project, the region, and the deadline of an operation.
            credentials: Of google.auth; by default those of the environment.
        """
        self._settings, self._given = settings, credentials

    @property
    def url(self) -> str:
        """The service's address, with its scheme."""
        address = self._settings.api_endpoint or f"{self._settings.region}-aiplatform.googleapis.com"
        return address if "://" in address else f"https://{address}"

    def get_endpoint(self, name: str) -> Any | None:
        """Return an endpoint, None where there is none."""
        return self._found("read the endpoint", "aiplatform.endpoints.get", self._endpoints.get_endpoint, name)

    def get_model(self, name: str) -> Any | None:
        """Return a model's version, by number or alias after an ``@``, or its default one; None where there is none."""
        return self._found("read the model", "aiplatform.models.get", self._models.get_model, name)

    def create_endpoint(self, words: str, request: Mapping[str, Any]) -> None:
        """Create an endpoint, and wait for it."""
        self._operate(self._asked(words, "aiplatform.endpoints.create"), self._endpoints.create_endpoint, request)

    def delete_endpoint(self, words: str, request: Mapping[str, Any]) -> None:
        """Delete an endpoint, and wait for it."""
        self._operate(self._asked(words, "aiplatform.endpoints.delete"), self._endpoints.delete_endpoint, request)

    def deploy(self, words: str, request: Mapping[str, Any]) -> None:
        """Deploy a model, and wait until it is ready."""
        self._operate(self._asked(words, "aiplatform.endpoints.deploy"), self._endpoints.deploy_model, request)

    def undeploy(self, words: str, request: Mapping[str, Any]) -> None:
        """Take a deployed model away, and wait for it."""
        self._operate(self._asked(words, "aiplatform.endpoints.undeploy"), self._endpoints.undeploy_model, request)

    def upload(self, words: str, request: Mapping[str, Any]) -> None:
        """Upload a model's version, and wait for it."""
        self._operate(self._asked(words, "aiplatform.models.upload"), self._models.upload_model, request)

    def update_endpoint(self, words: str, request: Mapping[str, Any]) -> None:
        """Change fields of an endpoint at once; there is no operation to wait for."""
        asked = self._asked(words, "aiplatform.endpoints.update")
        self._ask(asked, lambda: self._endpoints.update_endpoint(request, timeout=_REQUEST_S, retry=None))

    def settle(self, resource: str) -> bool:
        """Wait for what is under way on an endpoint or a model, whoever began it; return whether anything was.

        How it ended is not told: who asked looks at what is there now.
        """
        running = [one for one in self._operations(resource) if not one.done and _is_in_the_way(one)]
        for operation in running:
            _log.info("waiting for %s, which was begun before", operation.name)
            self._wait(operation, self._asked(f"end {operation.name}", "aiplatform.operations.get"))
        return bool(running)

    def converge(self, resource: str, step: Callable[[], _Answer]) -> _Answer:
        """Return what ``step`` gives, which looks first and does only what is missing; again after a passing error.

        Args:
            resource: What it changes. Operations of another process on it are waited for before each try.
            step: May have been done, or half, when it is called again.

        Raises:
            VertexError: It was refused, or the service did not do it in several tries.
        """
        for attempt in self._tries():
            with attempt:
                self.settle(resource)
                try:
                    return step()
                except OperationFailedError:
                    raise
                except VertexError as error:
                    # Two processes saw nothing there, or nothing under way: the second is told otherwise, and looks.
                    first = attempt.retry_state.attempt_number == 1
                    if error.status == "ALREADY_EXISTS" or (error.status == "FAILED_PRECONDITION" and first):
                        raise PassingError(str(error), status=error.status) from error
                    raise
        raise AssertionError  # pragma: no cover - tenacity returns or raises

    def raw_predict(self, name: str, body: bytes, content_type: str) -> Any:
        """Send a request to wherever an endpoint's traffic goes, and return the HTTP answer with its headers.

        Raises:
            VertexError: No answer, or one that is none of 200.
        """
        asked = self._asked(f"answer at {name}", "aiplatform.endpoints.predict")

        def send() -> Any:
            url = f"{self.url}/v1/{name}:rawPredict"
            return self._session.post(url, data=body, headers={"Content-Type": content_type}, timeout=_REQUEST_S)

        def accepted() -> Any:
            if not (answer := self._ask(asked, send)).ok:
                raise answers.of_response(answer, asked)
            return answer

        return self._tries(_PREDICT_TRIES)(accepted)

    # ---------------------------------------------------------------------------------------------------- one request

    def _asked(self, words: str, permission: str) -> Asked:
        return Asked(words=words, permission=permission, project=self._settings.project)

    def _ask(self, asked: Asked, call: Callable[[], _Answer]) -> _Answer:
        from google.api_core.exceptions import GoogleAPICallError
        from google.auth.exceptions import GoogleAuthError
        from requests.exceptions import RequestException

        try:
            return call()
        except (GoogleAPICallError, GoogleAuthError, RequestException) as error:
            raise answers.of_exception(error, asked) from error

    def _tries(self, most: int = _TRIES) -> Retrying:
        return Retrying(
            retry=retry_if_exception_type(PassingError),
            stop=stop_after_attempt(most),
            wait=wait_exponential(multiplier=self._settings.poll_s / 4, max=_SLOWEST_S),
            reraise=True,
        )

    def _patiently(self, read: Callable[[], _Answer]) -> _Answer:
        """Return what a request gives that changes nothing, asked again where the error passes."""
        return self._tries()(read)

    def _found(self, words: str, permission: str, call: Callable[..., Any], name: str) -> Any | None:
        asked = self._asked(f"{words} {name}", permission)
        try:
            return self._patiently(lambda: self._ask(asked, lambda: call(name=name, timeout=_REQUEST_S, retry=None)))
        except VertexError as error:
            if error.status == "NOT_FOUND":
                return None
            raise

    # ------------------------------------------------------------------------------------------------------- operations

    def _operations(self, resource: str) -> list[Any]:
        asked = self._asked(f"list what is under way on {resource}", "aiplatform.operations.list")
        client = self._models if "/models/" in resource else self._endpoints
        found: list[Any] = []
        token = ""
        while True:
            request = {"name": resource, "page_token": token}
            call = lambda request=request: client.list_operations(request, timeout=_REQUEST_S, retry=None)  # noqa: E731
            try:
                page = self._patiently(lambda call=call: self._ask(asked, call))  # type: ignore[misc]
            except VertexError as error:
                if error.status == "NOT_FOUND":  # as long as there is no such endpoint or model
                    return found
                raise
            found += page.operations
            token = page.next_page_token
            if not token:
                return found

    def _operate(self, asked: Asked, call: Callable[..., Any], request: Mapping[str, Any]) -> None:
        begun = self._ask(asked, lambda: call(request, timeout=_REQUEST_S, retry=None).operation)
        ended = self._wait(begun, asked)
        if ended.HasField("error"):
            raise answers.failed(ended.error.code, ended.error.message, asked)

    def _wait(self, operation: Any, asked: Asked) -> Any:
        """Return an operation once it has ended.

        Raises:
            EndpointError: It has not within the settings' time; it goes on, and the next run waits for it again.
        """
        limit_s = self._settings.timeout_s
        looking = Retrying(
            retry=retry_if_result(lambda found: not found.done),
            stop=stop_after_delay(limit_s),
            wait=wait_fixed(self._settings.poll_s),
        )
        try:
            return looking(self._look_at, operation)
        except RetryError:
            raise VertexError(
                f"Vertex AI has not ended after {limit_s:g} s, asked to {asked.words}; it goes on there as "
                f"{operation.name}. Run the same again to wait on: it is taken up, not begun anew. To look: "
                f'`curl -H "Authorization: Bearer $(gcloud auth print-access-token)" {self.url}/v1/{operation.name}`.',
                status="TIMED_OUT",
            ) from None

    def _look_at(self, operation: Any) -> Any:
        if operation.done:
            return operation
        client = self._models if "/models/" in operation.name else self._endpoints
        asked = self._asked(f"look at {operation.name}", "aiplatform.operations.get")
        return self._patiently(
            lambda: self._ask(
                asked, lambda: client.get_operation({"name": operation.name}, timeout=_REQUEST_S, retry=None)
            )
        )

    # ---------------------------------------------------------------------------------------------------------- clients

    def _client(self, kind: str) -> Any:
        try:
            from google.cloud import aiplatform_v1
        except ImportError:
            raise MissingExtraError("google-cloud-aiplatform", "vertex", "an endpoint of Vertex AI") from None
        return getattr(aiplatform_v1, kind)(
            credentials=self._credentials, transport="rest", client_options={"api_endpoint": self.url}
        )

    @cached_property
    def _endpoints(self) -> Any:
        return self._client("EndpointServiceClient")

    @cached_property
    def _models(self) -> Any:
        return self._client("ModelServiceClient")

    @cached_property
    def _session(self) -> Any:
        from google.auth.transport.requests import AuthorizedSession

        return AuthorizedSession(self._credentials)  # type: ignore[no-untyped-call]

    @cached_property
    def _credentials(self) -> Any:
        if self._given is not None:
            return self._given
        import google.auth

        asked = self._asked(f"serve in {location_of(self._settings)}", "aiplatform.endpoints.get")
        return self._ask(asked, lambda: google.auth.default(scopes=[_SCOPE])[0])


def _is_in_the_way(operation: Any) -> bool:
    """Return whether an operation changes what we would: on a model, an export or an evaluation does not."""
    kind = operation.metadata.type_url
    return "/models/" not in operation.name or not kind or kind.endswith(".UploadModelOperationMetadata")
