"""The event log: the truth of a registry, and the state that folding it gives. It knows nothing of models."""

from registry.log.event_log import Appended, EventLog, read_together
from registry.log.record import LogRecord, Machine, Snapshot

__all__ = ["Appended", "EventLog", "LogRecord", "Machine", "Snapshot", "read_together"]
