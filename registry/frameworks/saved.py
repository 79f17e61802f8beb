"""What is known of a model whose files were written, or found."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from registry.base import StoredRecord
from registry.frameworks.kinds import ModelFramework
from registry.signature import Signature


class SavedModel(StoredRecord):
    """What a framework says of the files that it wrote; ``info`` is JSON, and what ``load`` needs to read them back."""

    framework: ModelFramework
    info: dict[str, Any] = Field(default_factory=dict)
    signature: Signature | None = None


class FoundModel(StoredRecord):
    """What a file or folder is that somebody else wrote; ``beside`` names the files that go with a single file."""

    framework: ModelFramework
    signature: Signature | None = None
    beside: tuple[str, ...] = ()
