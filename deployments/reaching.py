"""Prefect's API as this command line reaches it: only a server that was named, and failures in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import get_current_settings

from registry.errors import InvalidInputError, ModelwayError


@contextmanager
def open_server() -> Iterator[SyncPrefectClient]:
    """Open a client of the server that ``PREFECT_API_URL`` names.

    Raises:
        InvalidInputError: None is named. Prefect would start one for this command alone, and it would be gone at once.
        ModelwayError: It cannot be reached, wants another auth string, or refuses a request.
    """
    url = get_current_settings().api.url
    if not url:
        raise InvalidInputError(
            "no Prefect server is named: set PREFECT_API_URL, for example to http://127.0.0.1:4200/api."
        )
    try:
        with get_client(sync_client=True) as client:
            yield client
    except httpx.TransportError as error:
        raise ModelwayError(
            f"the Prefect server at {url} cannot be reached: {error}. "
            "Start it, or set PREFECT_API_URL to the one you mean."
        ) from error
    except PrefectHTTPStatusError as error:
        raise _told(url, error.response) from error


def _told(url: str, response: httpx.Response) -> ModelwayError:
    if response.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return ModelwayError(
            f"the Prefect server at {url} does not let us in ({response.status_code}): set "
            "PREFECT_API_AUTH_STRING to the string that it was started with."
        )
    asked = f"{response.request.method} {response.request.url.path}"
    return ModelwayError(
        f"the Prefect server at {url} answered {asked} with {response.status_code}: {response.text[:500]}"
    )
