"""Object stores of this machine: moto's S3, a strict fake of Google's JSON API, and Azurite; a process each."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from filelock import FileLock

BUCKET = "models"

# The newest that runs on Node 18 and 20; 3.36 needs 21, 3.37 needs 22.
_AZURITE = "3.35.0"

AZURE_CONNECTION = (
    "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;BlobEndpoint={address}/devstoreaccount1;"
    # Not a secret: the key of every Azurite, printed in its documentation.
    "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;"
)


@dataclass(frozen=True)
class Emulator:
    """A running object store with one empty bucket, ``models``."""

    url: str
    """The URL of the bucket, as ``open_store`` takes it."""
    address: str
    """Where the server listens."""
    options: dict[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def s3_server() -> Iterator[Emulator]:
    """Run moto's S3."""
    with _program([sys.executable, str(Path(__file__).with_name("emulator_s3.py"))]) as output:
        address = output.readline().strip()
        options = {
            "key": "testing",
            "secret": "testing",
            "endpoint_url": address,
            "client_kwargs": {"region_name": "us-east-1"},
        }
        from s3fs import S3FileSystem

        S3FileSystem(**options, skip_instance_cache=True).call_s3("create_bucket", Bucket=BUCKET)
        yield Emulator(f"s3://{BUCKET}", address, options)


@contextlib.contextmanager
def gcs_server() -> Iterator[Emulator]:
    """Run the strict fake of Google Cloud Storage."""
    with _program([sys.executable, str(Path(__file__).with_name("emulator_gcs.py"))]) as output:
        address = output.readline().strip()
        options = {"endpoint_url": address, "token": "anon"}
        from gcsfs.core import GCSFileSystem

        GCSFileSystem(**options, skip_instance_cache=True).call("POST", "b", json={"name": BUCKET})
        yield Emulator(f"gs://{BUCKET}", address, options)


@contextlib.contextmanager
def azure_server() -> Iterator[Emulator]:
    """Run Azurite, installed by npm at the first time."""
    program = _azurite()
    command = ["node", str(program), "--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence"]
    # Its check of the API's version refuses clients that are newer than itself.
    with _program([*command, "--silent", "--skipApiVersionCheck", "--disableTelemetry"]) as output:
        address = _azurite_address(output)
        connection = AZURE_CONNECTION.format(address=address)
        from azure.storage.blob import BlobServiceClient

        with BlobServiceClient.from_connection_string(connection) as client:
            client.create_container(BUCKET)
        yield Emulator(f"az://{BUCKET}", address, {"connection_string": connection})


def _azurite_address(output: IO[str]) -> str:
    seen = []
    for line in output:
        seen.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            return found[0]
    raise RuntimeError(f"Azurite ended without listening:\n{''.join(seen)}")


def _azurite() -> Path:
    """Return Azurite's blob server; installed beside this environment's packages once, whoever asks first."""
    home = Path(sys.prefix) / f"azurite-{_AZURITE}"
    program = home / "node_modules/azurite/dist/src/blob/main.js"
    with FileLock(f"{home}.lock"):
        if not program.exists():
            options = ["--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
            subprocess.run(
                ["npm", "install", f"azurite@{_AZURITE}", "--prefix", str(home), *options],  # noqa: S607 - from PATH
                check=True,
                timeout=280,
                stdin=subprocess.DEVNULL,
            )
    return program


@contextlib.contextmanager
def _program(command: list[str]) -> Iterator[IO[str]]:
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": ""}
    )
    try:
        assert process.stdout is not None
        yield process.stdout
    finally:
        process.kill()
        process.communicate()
