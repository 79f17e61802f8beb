"""Whatever is asked in whatever order, and whatever goes wrong meanwhile: a registry answers as a plain table does."""

from __future__ import annotations

from hypothesis import settings
from table_machine import RegistryBesideATable

TestRegistryBesideATable = RegistryBesideATable.TestCase
if settings().stateful_step_count != settings.get_profile("faults").stateful_step_count:
    TestRegistryBesideATable.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
