"""How tasks say what they did: lines in Prefect's log of the run, which a terminal may show as steps."""

from __future__ import annotations

import logging

STEP = "modelway_step"
"""The attribute of a log record that marks a line of ours, and names its step."""


def tell(step: str, line: str) -> None:
    """Say in the run's log what ``step`` did; outside a run, in the plain log ``modelway``."""
    from prefect.exceptions import MissingContextError
    from prefect.logging import get_run_logger

    try:
        logger: logging.Logger | logging.LoggerAdapter[logging.Logger] = get_run_logger()
    except MissingContextError:
        logger = logging.getLogger("modelway")
    logger.info(line, extra={STEP: step})
