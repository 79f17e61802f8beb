"""A store that a user might bring: one SQLite file. It subclasses ModelStore and nothing else of modelway."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from registry import ModelStore
from registry.store import AlreadyExistsError
from registry.store.contract import CHUNK_BYTES, check_key


class SqliteStore(ModelStore):
    """Objects as rows; the primary key is the exclusive create."""

    def __init__(self, file: Path) -> None:
        """Take the file; it is made at the first write."""
        self.url = f"sqlite:///{file}"
        self._file = file

    def read(self, key: str) -> bytes:
        """Return one row's bytes."""
        found = self.read_many([key])[0]
        if found is None:
            raise FileNotFoundError(key)
        return found

    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return many rows' bytes."""
        with self._connection() as connection:
            found = [
                connection.execute("SELECT data FROM objects WHERE key = ?", [check_key(key)]).fetchone()
                for key in keys
            ]
        return [None if row is None else row[0] for row in found]

    def create(self, key: str, data: bytes) -> None:
        """Insert a row that must be new."""
        self._write("INSERT INTO objects VALUES (?, ?)", key, data)

    def replace(self, key: str, data: bytes) -> None:
        """Insert or overwrite a row."""
        self._write("INSERT OR REPLACE INTO objects VALUES (?, ?)", key, data)

    def list(self, prefix: str) -> list[str]:
        """Return the keys below a folder."""
        folder = f"{check_key(prefix)}/" if prefix else ""
        with self._connection() as connection:
            keys = [row[0] for row in connection.execute("SELECT key FROM objects")]
        return sorted(key for key in keys if key.startswith(folder))

    def delete(self, key: str) -> None:
        """Remove a row, if it is there."""
        with self._connection() as connection:
            connection.execute("DELETE FROM objects WHERE key = ?", [check_key(key)])

    def upload(self, key: str, chunks: Iterator[bytes]) -> None:
        """Insert a row; a database is no place for large files, and this holds one in memory."""
        check_key(key)
        self.create(key, b"".join(chunks))

    def chunks(self, key: str) -> Iterator[bytes]:
        """Yield a row's bytes in pieces."""
        data = self.read(key)
        return (data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES))

    def _write(self, statement: str, key: str, data: bytes) -> None:
        with self._connection() as connection:
            try:
                connection.execute(statement, [check_key(key), data])
            except sqlite3.IntegrityError:
                raise AlreadyExistsError(f"{key} exists already and is never overwritten.") from None

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self._file, timeout=60)) as connection, connection:
            connection.execute("CREATE TABLE IF NOT EXISTS objects (key TEXT PRIMARY KEY, data BLOB)")
            yield connection
