"""For people who write a store of their own: a suite that holds it to the contract (it needs pytest)."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    import pytest

    pytest.register_assert_rewrite("registry.testing.conformance", "registry.testing.racing")
