"""How many requests are answered at once; one too many is refused instead of kept waiting."""

from __future__ import annotations

from registry.endpoints.tensors import ProtocolError

_TOO_MANY = 429


class Slots:
    """Places that requests hold by ``with``; ``in_flight`` are held now, ``refused`` is how often there was none.

    A class and no ``contextmanager``, whose generator would cost each request a microsecond and a half.
    """

    __slots__ = ("_places", "in_flight", "refused")

    def __init__(self, places: int) -> None:
        """Begin with all of ``places`` free, 1 or more."""
        self._places = places
        self.in_flight = 0
        self.refused = 0

    def __enter__(self) -> None:
        """Hold a place.

        Raises:
            ProtocolError: All are taken (429).
        """
        if self.in_flight >= self._places:
            self.refused += 1
            raise ProtocolError(
                f"{self.in_flight} requests are under way, and no more are taken; ask again in a moment",
                status=_TOO_MANY,
            )
        self.in_flight += 1

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self.in_flight -= 1
