"""What is sent as an answer, and what is refused before anything is: on real registries, without a server."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Suspended

from deployments.approval_answers import Answerer, find_asked
from deployments.approvals import Form, find_run
from registry import ApprovalRequest, Guard, ModelRegistry
from registry.cli.invocation import Invocation
from registry.errors import ApprovalRequired, IntegrityError, InvalidInputError, ModelwayError, NotFoundError
from registry.signing import generate
from registry.state import Asked

ANN, BOB, EVE = "ann@example.com", "bob@example.com", "eve@example.org"
TYPED = Form(("decision", "approver", "reason"), "evidence", "key")
SIGNED = Form((*TYPED.fields, "signature"), "evidence", "key")


class Desk:
    """A registry in which something is asked; the keys of ann, of bob, who is listed by two names, and of eve."""

    def __init__(self, folder: Path) -> None:
        """Ask in a new registry below ``folder``."""
        self.folder, self.shown = folder, list[bytes]()
        public = {}
        for name in (ANN, BOB, EVE):
            private, public[name] = generate()
            (folder / name).write_bytes(private)
        self.registry = ModelRegistry(folder / "registry", actor="carl@example.com")
        signers = {ANN: public[ANN], BOB: public[BOB], "ann-at-home@example.com": public[BOB]}
        self.registry.set_guard(
            Guard(require_approval={"production"}, approvers=("*@example.com",), signers=signers)  # type: ignore[arg-type]
        )
        self.registry.register("digits", b"weights")
        self.request: ApprovalRequest = self.registry.request_approval("digits", 1, "production")

    @property
    def asked(self) -> Asked:
        return self.registry.get_approval("digits", self.request.id).asked

    def fields(self, form: Form, name: str | None = None, key: str | Path | None = None) -> dict[str, str]:
        answerer = Answerer(name, None if key is None else self.folder / key, "better", say=self.shown.append)
        return answerer.fields("approve", form, self.registry, self.asked)

    def labels(self, **other: str) -> dict[str, str]:
        told = {
            "model": "digits",
            "version": "v1",
            "stage": "production",
            "request": self.request.id,
            "registry": self.registry.url,
        }
        return {f"modelway.{name}": value for name, value in (told | other).items()}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def run_of(labels: dict[str, str], *, run: UUID | None = None) -> FlowRun:
    return FlowRun(id=run or uuid4(), flow_id=uuid4(), name="digits v1", labels=dict(labels), state=Suspended())


def test_the_owner_of_a_key_signs_what_is_shown_and_the_registry_takes_it(desk: Desk) -> None:
    fields = desk.fields(SIGNED, key=ANN)
    assert list(fields) == ["decision", "approver", "reason", "signature"]
    assert fields["approver"] == ANN
    (shown,) = desk.shown
    assert desk.request.id not in shown.decode(), "the request is signed whole, by its digest"
    assert str(desk.request.artifact_digest) in shown.decode()
    asked = desk.registry.answer_approval(
        "digits", desk.request.id, "approve", approver=ANN, reason="better", signature=fields["signature"]
    )
    assert [(one.approver, one.method) for one in asked.answers] == [(ANN, "signature")]
    assert desk.fields(SIGNED, name=" ANN@example.com ", key=ANN)["approver"] == "ANN@example.com"


@pytest.mark.parametrize(
    ("form", "name", "key", "error", "told"),
    [
        (SIGNED, ANN, None, ApprovalRequired, "takes no name that is only typed in: give your key by --key FILE"),
        (SIGNED, None, EVE, InvalidInputError, "who answers.*the key is that of nobody there"),
        (SIGNED, None, BOB, InvalidInputError, "who answers.*that of .*@example.com and .*@example.com there"),
        (SIGNED, ANN, EVE, ApprovalRequired, f"another key for '{ANN}'.*This key is that of nobody"),
        (SIGNED, EVE, ANN, ApprovalRequired, f"no key for '{EVE}'.*This key is that of {ANN}"),
        (SIGNED, None, "none.pem", InvalidInputError, "none.pem: No such file"),
        (SIGNED, None, Path(__file__), InvalidInputError, "test_giving_answers.py: that is no private key in PEM"),
        (SIGNED, None, ".", InvalidInputError, "Is a directory"),
        (TYPED, None, ANN, InvalidInputError, "no place for a signature"),
        (TYPED, None, None, InvalidInputError, "who answers. Give --as NAME"),
        (TYPED, " ", None, InvalidInputError, "who answers. Give --as NAME"),
    ],
)
def test_what_would_prove_nothing_is_refused_before_it_is_sent(  # noqa: PLR0913 - what a person gives, and what is said
    desk: Desk, *, form: Form, name: str | None, key: str | Path | None, error: type[ModelwayError], told: str
) -> None:
    with pytest.raises(error, match=told):
        desk.fields(form, name, key)
    assert not desk.shown
    assert desk.asked.heard == 0


def test_a_typed_in_name_is_sent_without_a_signature_where_the_form_wants_none(desk: Desk) -> None:
    assert desk.fields(TYPED, name=BOB) == {"decision": "approve", "approver": BOB, "reason": "better"}


def test_the_request_is_read_from_the_registry_that_the_run_names(desk: Desk, tmp_path: Path) -> None:
    registry, asked = find_asked(Invocation(), run_of(desk.labels()))
    assert (registry.identity, asked) == (desk.registry.identity, desk.asked)
    moved = desk.labels(registry=str(tmp_path / "away"))
    assert find_asked(Invocation(url=desk.registry.url), run_of(moved))[1] == asked, "--url goes before the label"
    with pytest.raises(NotFoundError, match="no registry at"):
        find_asked(Invocation(), run_of(moved))
    assert not (tmp_path / "away").exists()


def test_a_registry_that_has_no_such_request_is_refused(desk: Desk, tmp_path: Path) -> None:
    other = ModelRegistry(tmp_path / "other")
    other.register("digits", b"weights")
    with pytest.raises(NotFoundError, match="has no such request: no approval") as refused:
        find_asked(Invocation(url=other.url), run_of(desk.labels()))
    assert desk.registry.url in str(refused.value)
    assert other.url in str(refused.value)


@pytest.mark.parametrize("other", [{"version": "v2"}, {"stage": "staging"}])
def test_labels_that_say_something_else_than_the_request_are_refused(desk: Desk, other: dict[str, str]) -> None:
    desk.registry.register("digits", b"other weights")
    with pytest.raises(IntegrityError, match="expected digits:v1 to production in registry") as refused:
        find_asked(Invocation(), run_of(desk.labels(**other)))
    assert refused.value.exit_code == 6


def test_a_run_is_found_by_request_prefix_or_its_own_id(desk: Desk) -> None:
    runs = [run_of(desk.labels(request=request)) for request in ("abc1", "abc2", "abc", "d00d", "d00d")]
    assert find_run(runs, "abc2") is runs[1]
    assert find_run(runs, "abc") is runs[2], "a whole id goes before a beginning"
    assert find_run(runs, str(runs[4].id)) is runs[4]
    for wanted, told in (("ab", "may be any of these"), ("d00d", "may be any of these"), ("", "no run"), ("x", "abc1")):
        with pytest.raises(NotFoundError, match=told):
            find_run(runs, wanted)
    with pytest.raises(NotFoundError, match="Waiting: nothing"):
        find_run([], "x")


def test_a_beginning_of_several_requests_is_refused_with_the_ids_of_all(desk: Desk) -> None:
    runs = [run_of(desk.labels(request=request)) for request in ("abc1", "abc2")]
    with pytest.raises(NotFoundError) as refused:
        find_run(runs, "abc")
    assert f"abc1 (run {runs[0].id}), abc2 (run {runs[1].id})" in str(refused.value)
