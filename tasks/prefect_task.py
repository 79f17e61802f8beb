"""What every task on the registry is: a Prefect task that is neither cached nor retried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

registry_step: Callable[..., Any] = task(cache_policy=NO_CACHE, persist_result=False)
"""Not cached: what was done stands in the registry's log, found by the step's idempotency key, also when Prefect's
database is gone or the code was edited. Not retried: what fails here (a refusal, a wrong byte) would fail again."""
