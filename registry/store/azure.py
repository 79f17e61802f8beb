"""Azure Blob Storage through adlfs: conditional writes by ``If-None-Match: *``."""

from __future__ import annotations

import base64
import os
import uuid
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from registry.store.bucket import MISSING_BUCKET, Answer, Body, Bucket, Pieces, Stat

if TYPE_CHECKING:
    from azure.storage.blob.aio import BlobClient

# Azure's own first wait is 15 s. A connection that is refused is a wrong address or no network: say so at once.
_TRIES: dict[str, Any] = {"retry_total": 2, "retry_connect": 0}

# Above this aiohttp warns of plain bytes, and upload_blob makes plain bytes of whatever it is given.
_ONE_REQUEST_BYTES = 1 << 20


def _forget_to_close() -> None:
    """In a forked child, leave the parent's clients alone.

    adlfs closes each when the process ends, on a loop that runs in a thread. The child has the loop and not the thread,
    and would wait for ever.
    """
    for finalizer in list(getattr(weakref.finalize, "_registry", ())):
        alive = finalizer.peek()
        if alive is not None and type(alive[0]).__module__.startswith("adlfs"):
            finalizer.atexit = False


os.register_at_fork(after_in_child=_forget_to_close)


class AzureBucket(Bucket):
    """A container of Azure Blob Storage, with or without a hierarchical namespace."""

    scheme, package, extra, wording = "az", "adlfs", "azure", "container"
    mend = (
        "Credentials come from storage_options (account_name with account_key, sas_token or credential; or "
        "connection_string), AZURE_STORAGE_* variables, `az login` or the machine's identity."
    )
    most_pieces = 50_000

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        """Make the client of a container."""
        from adlfs import AzureBlobFileSystem

        self._client = AzureBlobFileSystem(**{**options, "use_listings_cache": False, "skip_instance_cache": True})
        self._name = name

    @override
    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        asked: dict[str, Any] = {} if end is None else {"offset": start, "length": end - start}
        async with self.blob(key) as blob:
            data: bytes = await (await blob.download_blob(**asked, **_TRIES)).readall()
        return data

    @override
    async def stat(self, key: str) -> Stat:
        async with self.blob(key) as blob:
            found = await blob.get_blob_properties(**_TRIES)
        return Stat(found.size, found.last_modified)

    @override
    async def put(self, key: str, data: bytes, *, exclusive: bool) -> None:
        if len(data) > _ONE_REQUEST_BYTES:
            await self.pieces(key, exclusive=exclusive).finish(1, data)
            return
        async with self.blob(key) as blob:
            await blob.upload_blob(data, overwrite=not exclusive, **_TRIES)

    @override
    async def delete(self, key: str) -> None:
        async with self.blob(key) as blob:
            await blob.delete_blob(**_TRIES)

    @override
    async def page(self, prefix: str, token: str | None) -> tuple[list[str], str | None]:
        async with self._client.service_client.get_container_client(self._name) as container:
            found = container.list_blobs(
                name_starts_with=prefix, include=["metadata"], results_per_page=self.page_keys, **_TRIES
            )
            pages = found.by_page(continuation_token=token)
            keys: list[str] = []
            async for page in pages:
                # In accounts with a hierarchical namespace folders are listed among the blobs, marked so.
                keys = [blob.name async for blob in page if (blob.metadata or {}).get("hdi_isfolder") != "true"]
                break
        return keys, pages.continuation_token or None

    @override
    def pieces(self, key: str, *, exclusive: bool) -> Pieces:
        return _AzurePieces(self, key, exclusive=exclusive)

    @classmethod
    @override
    def answer(cls, error: BaseException) -> Answer | None:
        from azure.core.exceptions import HttpResponseError

        if not isinstance(error, HttpResponseError) or error.status_code is None:
            return None
        said = getattr(error, "error_code", None)
        code = str(getattr(said, "value", said) or "")
        status = error.status_code
        if code in {"ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled"}:
            status, code = 404, MISSING_BUCKET
        elif code == "BlobAlreadyExists":  # Azure says 409 for it, as for a writer in the way
            status = 412
        elif code == "InvalidBlockList":  # a write of another in between made Azure forget our blocks
            status = 409
        return Answer(status, code, str(error.message).partition("\n")[0])

    @classmethod
    @override
    def lacks_credentials(cls, error: BaseException) -> bool:
        from azure.core.exceptions import ClientAuthenticationError

        return isinstance(error, ClientAuthenticationError) and error.status_code is None

    @classmethod
    @override
    def broke_off(cls, error: BaseException) -> bool:
        from azure.core.exceptions import ServiceRequestError, ServiceResponseError

        return isinstance(error, (ServiceRequestError, ServiceResponseError))

    def blob(self, key: str) -> BlobClient:
        """Return the client of one blob."""
        client: BlobClient = self._client.service_client.get_blob_client(container=self._name, blob=key)
        return client


class _AzurePieces(Pieces):
    """Blocks under names of their own: two uploads to one key must not commit each other's."""

    def __init__(self, bucket: AzureBucket, key: str, *, exclusive: bool) -> None:
        self._bucket, self._key, self._exclusive = bucket, key, exclusive
        self._token = uuid.uuid4().hex

    @override
    async def begin(self) -> None:
        pass

    @override
    async def stage(self, number: int, data: bytes) -> None:
        async with self._bucket.blob(self._key) as blob:
            await blob.stage_block(self._name(number), Body(data), length=len(data), **_TRIES)

    @override
    async def finish(self, number: int, data: bytes) -> None:
        from azure.core import MatchConditions
        from azure.storage.blob import BlobBlock

        await self.stage(number, data)
        blocks = [BlobBlock(self._name(block)) for block in range(1, number + 1)]
        free: dict[str, Any] = {"match_condition": MatchConditions.IfMissing} if self._exclusive else {}
        async with self._bucket.blob(self._key) as blob:
            await blob.commit_block_list(blocks, **free, **_TRIES)

    @override
    async def abort(self) -> None:
        """Do nothing: Azure forgets blocks that were not committed with the next write of the key, or in a week."""

    def _name(self, number: int) -> str:
        return base64.b64encode(f"{self._token}{number:06d}".encode()).decode()
