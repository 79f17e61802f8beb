"""The verbs that keep a registry in order, in one class."""

from __future__ import annotations

from registry.collecting import Collecting
from registry.doctoring import Doctoring
from registry.exporting import Exporting
from registry.rebuilding import Rebuilding
from registry.verifying import Verifying


class Keeping(Verifying, Rebuilding, Collecting, Doctoring, Exporting):
    """Verify, rebuild, gc and doctor; copy, export and import."""
