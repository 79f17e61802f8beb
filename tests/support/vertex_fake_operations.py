"""Long-running operations of a fake Vertex AI: under way until somebody has looked often enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf.message import Message
from vertex_fake_checks import CODE_OF, Refusal


def plain(message: Any) -> Any:
    """Return a message as protobuf's own, which those of the service wrap."""
    return message if isinstance(message, Message) else type(message).pb(message)


@dataclass
class Operation:
    """Something under way: what it works on, how many more looks it takes, and what it does at its end."""

    name: str
    resource: str
    looks: int
    effect: Callable[[], Any]
    metadata: Any
    error: tuple[str, str] | None = None
    done: bool = False
    result: Any = None

    def look(self) -> None:
        """Come a look closer to the end."""
        self.looks -= 1
        if self.done or self.looks > 0:
            return
        self.done = True
        if self.error is None:
            try:
                self.result = self.effect()
            except Refusal as refusal:
                self.error = refusal.status, str(refusal)

    def message(self) -> Any:
        """Return it as the service's own message."""
        message = operations_pb2.Operation(name=self.name, done=self.done)
        message.metadata.Pack(plain(self.metadata))
        if self.done and self.error is not None:
            message.error.code, message.error.message = CODE_OF[self.error[0]], self.error[1]
        elif self.done:
            message.response.Pack(plain(self.result))
        return message
