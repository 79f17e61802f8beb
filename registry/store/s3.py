"""S3 and what speaks its language, through s3fs: conditional writes by ``If-None-Match: *``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from typing_extensions import override

from registry.store.bucket import Answer, Bucket, Pieces, Refused, Stat


class S3Bucket(Bucket):
    """A bucket of S3, MinIO, R2, Ceph: any server that honours ``If-None-Match`` on PUT and on completing uploads."""

    scheme, package, extra, wording = "s3", "s3fs", "s3", "bucket"
    mend = (
        "Credentials come from storage_options (key, secret, token, profile), AWS_* variables, ~/.aws or the "
        "machine's role."
    )

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        """Make the client of a bucket."""
        from s3fs import S3FileSystem

        config = {
            "max_pool_connections": 64,  # botocore's 10 would make a batch of 20 reads two round trips
            "retries": {"mode": "standard", "total_max_attempts": 3},  # s3fs tries again on top of these
            **options.get("config_kwargs", {}),
        }
        given = {**options, "config_kwargs": config, "use_listings_cache": False, "skip_instance_cache": True}
        self._client = S3FileSystem(**given)
        self._name = name

    @override
    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        asked = {} if end is None else {"Range": f"bytes={start}-{end - 1}"}
        found = await self._call("get_object", Key=key, **asked)
        async with found["Body"] as body:
            data: bytes = await body.read()
        return data

    @override
    async def stat(self, key: str) -> Stat:
        # Not HEAD, whose 404 has no body and does not tell a missing bucket from a missing key.
        found = (await self._call("list_objects_v2", Prefix=key, MaxKeys=1)).get("Contents", [])
        if not found or found[0]["Key"] != key:
            raise Refused(Answer(404, "NoSuchKey", "there is no such key"))
        return Stat(found[0]["Size"], found[0]["LastModified"])

    @override
    async def put(self, key: str, data: bytes, *, exclusive: bool) -> None:
        await self._call("put_object", Key=key, Body=data, **_if_free(exclusive))

    @override
    async def delete(self, key: str) -> None:
        await self._call("delete_object", Key=key)

    @override
    async def page(self, prefix: str, token: str | None) -> tuple[list[str], str | None]:
        onward = {} if token is None else {"ContinuationToken": token}
        found = await self._call("list_objects_v2", Prefix=prefix, MaxKeys=self.page_keys, **onward)
        return [entry["Key"] for entry in found.get("Contents", [])], found.get("NextContinuationToken")

    @override
    def pieces(self, key: str, *, exclusive: bool) -> Pieces:
        return _S3Pieces(self, key, exclusive=exclusive)

    @override
    async def sweep(self, prefix: str, before: datetime, *, dry_run: bool) -> list[str]:
        found: list[str] = []
        onward: dict[str, str] = {}
        while True:
            page = await self._call("list_multipart_uploads", Prefix=prefix, **onward)
            for upload in page.get("Uploads", []):
                if upload["Initiated"] < before:
                    found.append(upload["Key"])
                    if not dry_run:
                        await self._call("abort_multipart_upload", Key=upload["Key"], UploadId=upload["UploadId"])
            if not page.get("IsTruncated"):
                return found
            onward = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    @classmethod
    @override
    def answer(cls, error: BaseException) -> Answer | None:
        # s3fs turns some answers into OSErrors and keeps the client's error as the cause; only that one has the code.
        response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
        if not isinstance(response, dict) or "Error" not in response:
            return None
        said = response["Error"]
        code, region = str(said.get("Code", "")), said.get("Region")
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode") or (int(code) if code.isdigit() else 400)
        message = said.get("Message", "")
        return Answer(status, code, f"{message} (the bucket is in {region})" if region else message)

    @classmethod
    @override
    def lacks_credentials(cls, error: BaseException) -> bool:
        from botocore import exceptions

        return isinstance(
            error,
            (
                exceptions.NoCredentialsError,
                exceptions.PartialCredentialsError,
                exceptions.CredentialRetrievalError,
                exceptions.ProfileNotFound,
                exceptions.TokenRetrievalError,
                exceptions.UnauthorizedSSOTokenError,
            ),
        )

    @classmethod
    @override
    def broke_off(cls, error: BaseException) -> bool:
        from botocore import exceptions

        return isinstance(error, (exceptions.HTTPClientError, exceptions.ConnectionError))

    async def _call(self, method: str, **arguments: Any) -> Any:
        return await self._client._call_s3(method, Bucket=self._name, **arguments)  # noqa: SLF001 - call_s3 is its blocking form


class _S3Pieces(Pieces):
    def __init__(self, bucket: S3Bucket, key: str, *, exclusive: bool) -> None:
        self._call, self._key, self._exclusive = bucket._call, key, exclusive  # noqa: SLF001 - of this module
        self._id = ""
        self._tags: dict[int, str] = {}

    @override
    async def begin(self) -> None:
        self._id = (await self._call("create_multipart_upload", Key=self._key))["UploadId"]

    @override
    async def stage(self, number: int, data: bytes) -> None:
        sent = await self._call("upload_part", Key=self._key, UploadId=self._id, PartNumber=number, Body=data)
        self._tags[number] = sent["ETag"]

    @override
    async def finish(self, number: int, data: bytes) -> None:
        await self.stage(number, data)
        parts = [{"PartNumber": part, "ETag": tag} for part, tag in sorted(self._tags.items())]
        await self._call(
            "complete_multipart_upload",
            Key=self._key,
            UploadId=self._id,
            MultipartUpload={"Parts": parts},
            **_if_free(self._exclusive),
        )

    @override
    async def abort(self) -> None:
        if self._id:
            await self._call("abort_multipart_upload", Key=self._key, UploadId=self._id)


def _if_free(exclusive: bool) -> dict[str, str]:  # noqa: FBT001 - two calls above
    return {"IfNoneMatch": "*"} if exclusive else {}
