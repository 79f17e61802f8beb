"""Google Cloud Storage through gcsfs: conditional writes by ``ifGenerationMatch=0``.

Objects are sent as ``uploadType=media``, the bytes alone: gcsfs's own multipart body has a fixed boundary, which an
object may contain.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from typing_extensions import override

from registry.store.bucket import MISSING_BUCKET, Answer, Body, Bucket, Pieces, Refused, Stat

# gcsfs logs each error that it raises, with a traceback, and without a handler that lands on a user's terminal.
logging.getLogger("gcsfs").addHandler(logging.NullHandler())

_BYTES = {"Content-Type": "application/octet-stream"}


class GcsBucket(Bucket):
    """A bucket of Google Cloud Storage."""

    scheme, package, extra, wording = "gs", "gcsfs", "gcs", "bucket"
    mend = (
        "Credentials come from storage_options (token: a key file, a credentials object or 'anon'), from "
        "GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default login` or the machine's service account."
    )
    pieces_at_once = 1  # a resumable upload takes its pieces in order

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        """Make the client of a bucket."""
        # Not fsspec.filesystem("gs"): that is the variant for zonal buckets, which asks for each bucket's layout first.
        from gcsfs.core import GCSFileSystem

        self._client = GCSFileSystem(**{**options, "use_listings_cache": False, "skip_instance_cache": True})
        self._name = name
        self._answered = False

    @override
    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        headers = {} if end is None else {"Range": f"bytes={start}-{end - 1}"}
        _, data = await self._call("GET", "b/{}/o/{}", self._name, key, alt="media", headers=headers)
        return bytes(data)

    @override
    async def stat(self, key: str) -> Stat:
        found = await self._call("GET", "b/{}/o/{}", self._name, key, fields="size,updated", json_out=True)
        return Stat(int(found["size"]), datetime.fromisoformat(found["updated"]))

    @override
    async def put(self, key: str, data: bytes, *, exclusive: bool) -> None:
        await self._call(
            "POST", self._uploads, uploadType="media", data=Body(data), headers=_BYTES, **_target(key, exclusive)
        )

    @override
    async def delete(self, key: str) -> None:
        await self._call("DELETE", "b/{}/o/{}", self._name, key)

    @override
    async def page(self, prefix: str, token: str | None) -> tuple[list[str], str | None]:
        found = await self._call(
            "GET",
            "b/{}/o",
            self._name,
            prefix=prefix,
            pageToken=token,
            maxResults=self.page_keys,
            fields="items/name,nextPageToken",
            json_out=True,
        )
        return [item["name"] for item in found.get("items", [])], found.get("nextPageToken")

    @override
    def pieces(self, key: str, *, exclusive: bool) -> Pieces:
        return _GcsPieces(self, _target(key, exclusive))

    @classmethod
    @override
    def answer(cls, error: BaseException) -> Answer | None:
        from gcsfs.retry import HttpError
        from requests.exceptions import ProxyError

        if isinstance(error, HttpError):
            return Answer(int(error.code or 400), str(error.code), str(error.message))
        start, _, said = str(error).partition("\n")
        # How gcsfs tells these answers; their codes are gone.
        for kind, begins, status in (
            (FileExistsError, ("b/", "http"), 412),
            (FileNotFoundError, ("b/", "http"), 404),  # and not that of a key file
            (ProxyError, "", 502),
            (OSError, "Forbidden: ", 403),
            (ValueError, "Bad Request: ", 400),
        ):
            if isinstance(error, kind) and start.startswith(begins):
                return Answer(status, "", said)
        return None

    @classmethod
    @override
    def lacks_credentials(cls, error: BaseException) -> bool:
        from google.auth.exceptions import GoogleAuthError, TransportError

        return isinstance(error, GoogleAuthError) and not isinstance(error, TransportError)

    @classmethod
    @override
    def broke_off(cls, error: BaseException) -> bool:
        from aiohttp import ClientError
        from google.auth.exceptions import TransportError

        return isinstance(error, (ClientError, TransportError))

    @property
    def _uploads(self) -> str:
        return f"{self._client._location}/upload/storage/v1/b/{quote(self._name)}/o"  # noqa: SLF001 - as gcsfs's own upload functions

    async def _call(self, method: str, path: str, *parts: str, **arguments: Any) -> Any:
        try:
            found = await self._client._call(method, path, *parts, **arguments)  # noqa: SLF001 - call is its blocking form
        except FileNotFoundError:
            await self._check_bucket()
            raise
        self._answered = True
        return found

    async def _check_bucket(self) -> None:
        """Tell a missing bucket from a missing key: gcsfs drops the body of a 404. Asked once, if ever."""
        if self._answered:
            return
        try:
            await self._client._call("GET", "b/{}/o", self._name, maxResults=1, fields="kind")  # noqa: SLF001 - as above
        except FileNotFoundError:
            raise Refused(Answer(404, MISSING_BUCKET, "the bucket does not exist")) from None
        self._answered = True


class _GcsPieces(Pieces):
    def __init__(self, bucket: GcsBucket, target: dict[str, str]) -> None:
        self._bucket, self._target = bucket, target
        self._session = ""
        self._sent = 0

    @override
    async def begin(self) -> None:
        headers, _ = await self._bucket._call(  # noqa: SLF001 - of this module
            "POST",
            self._bucket._uploads,  # noqa: SLF001 - of this module
            uploadType="resumable",
            headers={"X-Upload-Content-Type": "application/octet-stream"},
            **self._target,
        )
        self._session = headers["Location"]

    @override
    async def stage(self, number: int, data: bytes) -> None:
        await self._send(data, "*")

    @override
    async def finish(self, number: int, data: bytes) -> None:
        await self._send(data, str(self._sent + len(data)))

    @override
    async def abort(self) -> None:
        if self._session:
            await self._bucket._call("DELETE", self._session)  # noqa: SLF001 - of this module

    async def _send(self, data: bytes, total: str) -> None:
        start, end = self._sent, self._sent + len(data)
        while self._sent < end:
            headers = {"Content-Range": f"bytes {self._sent}-{end - 1}/{total}"}
            rest = Body(data[self._sent - start :])
            answered, body = await self._bucket._call("PUT", self._session, headers=headers, data=rest)  # noqa: SLF001 - of this module
            if body and total != "*":
                self._sent = end
            elif kept := answered.get("Range"):  # the service may keep less than it was sent
                self._sent = int(kept.rpartition("-")[2]) + 1


def _target(key: str, exclusive: bool) -> dict[str, str]:  # noqa: FBT001 - two calls above
    return {"name": key, "ifGenerationMatch": "0"} if exclusive else {"name": key}
