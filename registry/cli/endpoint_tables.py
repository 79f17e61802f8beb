"""The tables of endpoints: what serves, its evidence, its history, and where it has drifted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.table import Table

from registry.cli.cells import add_row, approval_line, facts_of, metrics_line, number, table_of, time_of
from registry.cli.summaries import EndpointDetails, EndpointPage
from registry.drifting import Drift
from registry.endpoint_history import EndpointEntry
from registry.endpoints.desired import Desired, Observed


def of_endpoints(pages: Iterable[EndpointPage]) -> Table:
    """Return a row for each endpoint."""
    table = table_of("endpoint", "serves", "engine", "generation", "state", "url")
    for page in pages:
        one = page.endpoint
        serves = "-" if one.desired is None else _served(one.desired)
        engine = "-" if one.observed is None else one.observed.engine
        add_row(table, one.name, serves, engine, str(one.generation), _state(page), page.url or "-")
    return table


def of_endpoint(page: EndpointDetails) -> Table:
    """Return everything of an endpoint."""
    table = facts_of(page.endpoint.name)
    for fact, words in _facts(page):
        add_row(table, fact, words)
    return table


def of_history(history: Iterable[EndpointEntry]) -> Table:
    """Return a row for each line of an endpoint's history."""
    table = table_of("at", "generation", "event", "by", "what")
    for one in history:
        bytes_ = "".join(f"; {part.version} is {part.digest[:12]}" for part in one.parts if part.digest)
        add_row(table, time_of(one.at), str(one.generation or "-"), one.event, one.actor, f"{one.words}{bytes_}")
    return table


def of_drifts(drifts: Sequence[Drift]) -> Table:
    """Return a row for each way in which an endpoint is not what it should be."""
    table = table_of("endpoint", "drift", "what", "mend")
    for one in drifts:
        add_row(table, one.endpoint, one.kind, one.words, one.mend)
    return table


def _facts(page: EndpointDetails) -> Iterator[tuple[str, str]]:
    one = page.endpoint
    yield "state", _state(page)
    yield "url", page.url or "-"
    if one.desired is not None:
        yield "serves", f"{_served(one.desired)} (generation {one.generation})"
        yield "follows", one.desired.follows or "nothing: the version is pinned"
        yield "why", one.desired.why or "-"
    if page.version is not None:
        yield "in", f"{page.version.stage} since {time_of(page.version.stage_since)}"
        yield "approved", "\n".join(map(approval_line, page.version.approvals)) or "nobody was asked"
        yield "metrics", metrics_line(page.version.metrics)
    if one.desired is not None:
        yield "metadata", one.desired.metadata_digest
        yield "variant", one.desired.variant or "the model's own ONNX"
    if one.observed is not None:
        yield from _facts_of_process(one.observed)
    for drift in page.drift:
        yield "drift", f"{drift.words} (`{drift.mend}`)"
    if page.way_back is not None:
        yield "way back", page.way_back


def _facts_of_process(seen: Observed) -> Iterator[tuple[str, str]]:
    if seen.server is None:
        yield "brought up", f"by {seen.host}, {time_of(seen.since)}"
    else:
        yield "process", f"{seen.server.pid} on {seen.host}, since {time_of(seen.since)}"
    yield "gRPC", seen.grpc or "-"
    yield "engine", seen.engine + (f": {seen.why_engine}" if seen.why_engine else "")
    for part in seen.parts:
        if part.digest:
            yield f"bytes of {part.version}", f"sha256:{part.digest.removeprefix('sha256:')}"
    if seen.golden is not None:
        yield "golden samples", f"{seen.golden.samples}, largest difference {number(seen.golden.max_abs)}"
    yield from seen.resources.items()


def _served(desired: Desired) -> str:
    beside = [f"{role} {share.version} {share.share:.0%}" for role, share in desired.shares() if role != "stable"]
    return ", ".join([f"{desired.model}:{desired.version}", *beside])


def _state(page: EndpointPage) -> str:
    if page.endpoint.desired is None:
        return "stopped"
    if page.endpoint.running is None:
        return f"at {page.endpoint.desired.target}"
    return "running" if page.endpoint.running else "not running here"
