"""The two kinds of record: what callers hand in (unknown fields refused) and what is stored (unknown fields kept)."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict

from registry.errors import InvalidInputError


class Record(BaseModel):
    """A frozen, strictly typed value; an unknown field is an error, so is NaN."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        protected_namespaces=(),  # ``model_name`` and ``model_id`` are words of the domain here
    )


class StoredRecord(Record):
    """A record read back from storage: fields that a later release added survive a round trip."""

    model_config = ConfigDict(extra="allow")


def as_tuple(value: object) -> object:
    """Return a list as the tuple that a record keeps, and anything else as it is; a validator for before.

    YAML and JSON give lists, and strict mode would refuse them.
    """
    return tuple(value) if isinstance(value, list) else value


class Word(StrEnum):
    """A string enum that reads its values without regard to case; subclasses may name short forms."""

    @classmethod
    def short_forms(cls) -> dict[str, str]:
        """Return spellings that stand for a value, such as ``prod`` for ``production``."""
        return {}

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the member that ``text`` names.

        Raises:
            InvalidInputError: It names none; the message lists those there are.
        """
        word = str(text).strip().lower()
        word = cls.short_forms().get(word, word)
        for member in cls:
            if member.value == word:
                return member
        raise cls._unknown(text)

    @classmethod
    def _unknown(cls, text: str) -> InvalidInputError:
        names = ", ".join(member.value for member in cls)
        return InvalidInputError(f"{text!r} is no {cls.__name__}; there are: {names}.")
