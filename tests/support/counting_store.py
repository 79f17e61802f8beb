"""A store that counts what it is asked, and a history as long as one likes to ask it for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from registry import InMemoryModelStore, ModelMetrics, ModelRegistry, ModelStage
from registry.encoding import digest_of
from registry.events import Annotated_, ModelEvent, Moved, Registered, Reserved
from registry.log import LogRecord, Snapshot
from registry.log.reader import CHECKPOINT_EVERY, LogReader
from registry.log.record import NO_RECORD
from registry.machine import ModelMachine
from registry.records import Artifact, Description
from registry.state import ModelState
from registry.versions import Strategy

STARTED = datetime(2026, 1, 1, tzinfo=UTC)


class CountingStore(InMemoryModelStore):
    """Counts ``requests``, a batch as many as it has keys, and ``round_trips``, a batch as one.

    ``projections`` are counted apart: status.json, checkpoints and hints, of which nothing rests on when they arrive.
    """

    def __init__(self) -> None:
        """Make an empty store."""
        super().__init__()
        self.forget()

    def forget(self) -> None:
        """Begin to count anew."""
        self.requests, self.round_trips, self.projections = 0, 0, 0

    def read(self, key: str) -> bytes:
        self._count(1)
        return super().read(key)

    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        self._count(len(keys))
        return super().read_many(keys)

    def create(self, key: str, data: bytes) -> None:  # upload comes here too
        self._count(1)
        super().create(key, data)

    def list(self, prefix: str) -> list[str]:
        self._count(1)
        return super().list(prefix)

    def replace(self, key: str, data: bytes) -> None:
        self.projections += 1
        super().replace(key, data)

    def delete(self, key: str) -> None:
        self.projections += 1
        super().delete(key)

    def _count(self, requests: int) -> None:
        self.requests += requests
        self.round_trips += 1


def with_history(store: CountingStore, name: str, *, versions: int, events: int) -> None:
    """Write a model with so many versions whose log has so many records, the last version but one in production.

    As the registry would have written it, but for the checkpoints that nobody would read any more.
    """
    ModelRegistry(store=store, actor="ada").register(name)  # takes the name, and writes records 1 and 2
    reader = LogReader(store, f"models/{name}/", ModelMachine())
    known: Snapshot[ModelState] = reader.empty()
    digest, number = NO_RECORD, 0
    for number, event in enumerate(_history(versions, events), start=1):
        if number <= 2:
            data = store.read(reader.record_key(number))
        else:
            record = LogRecord(
                number=number,
                id=f"{number:032x}",
                previous=digest,
                time=STARTED + timedelta(seconds=number),
                actor="ada",
                event=event.model_dump(mode="json"),
            )
            data = record.encode()
            store.create(reader.record_key(number), data)
        digest = digest_of(data)
        known = reader.fold(known, data)
        if number % CHECKPOINT_EVERY == 0 and number > events - 2 * CHECKPOINT_EVERY:
            store.replace(reader.checkpoint_key(number), reader.encode_checkpoint(known))
            store.replace(reader.hint_key, b'{"checkpoint":%d}' % number)
    store.forget()


def _history(versions: int, events: int) -> Iterator[ModelEvent]:
    """Yield two events for each version, the promotion of the last but one, and annotations until there are enough."""
    for ordinal in range(1, versions + 1):
        key, digest = str(ordinal), "sha256:" + f"{ordinal:064x}"
        yield Reserved(version=key, label=f"v{key}", path=f"versions/v{key}", strategy=Strategy.AUTOMATIC)
        yield Registered(
            version=key,
            metadata_digest=digest,
            described=Description(
                metrics=ModelMetrics(accuracy=0.9), parameters={"epochs": 3}, tags={"team": "vision"}
            ),
            artifact=Artifact(digest=digest, size_bytes=1 << 20, files=1),
        )
    development = ModelStage.DEVELOPMENT
    yield Moved(version=str(versions - 1), from_stage=development, to_stage=ModelStage.PRODUCTION)
    for number in range(2 * versions + 2, events + 1):
        yield Annotated_(version=str(1 + number % versions), description=f"looked at {number}")
