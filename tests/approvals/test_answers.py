"""`modelway approvals` against a real Prefect server on which real promotions wait; and answers that are none."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from approval_office import ANN, BOB, CARL, EVE, Office
from busy_proxy import Fault, faulty
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Scheduled

from deployments.approval_answers import wait_for_record
from deployments.approvals import hand_over, patient_server
from registry import ModelRegistry
from registry.errors import ConflictError, ModelwayError
from registry.signing import payload, sign

pytestmark = pytest.mark.heavy


def signed(office: Office, request: str, who: str, *, model: str = "digits", **other: str) -> dict[str, str]:
    """Return the form's fields as ``approve --key`` would send them."""
    answer = {"decision": "approve", "approver": who, "reason": "better"} | other
    asked = office.asked(request, model).request
    private = office.keys[who].read_bytes()
    return {**answer, "signature": sign(private, payload(office.registry.identity.id, asked, **answer))}


def forge(office: Office, run: UUID, fields: Mapping[str, Any] | None) -> None:
    """Put an answer where Prefect keeps it, past the form, and force the run on; None: force it on without."""
    key = office.prefect.form(run).key
    with office.prefect.client() as client:
        if fields is not None:
            client.create_flow_run_input(run, key, json.dumps(fields))
        client.set_flow_run_state(run, Scheduled(), force=True)


def test_a_signed_answer_is_given_from_the_command_line(office: Office) -> None:
    office.guard(signed=True)
    run, request = office.ask()
    waits = office.prefect.read(run).state

    (listed,) = json.loads(office.modelway("--json", "--url", office.registry.url, "approvals", "list").stdout)
    assert (listed["request"], listed["model"], listed["version"], listed["stage"]) == (
        request, "digits", "v1", "production",
    )  # fmt: skip
    assert (listed["requested_by"], listed["run"], listed["answers"]) == (CARL, str(run), [])
    assert listed["link"].endswith(f"/runs/flow-run/{run}")
    shown = office.modelway("approvals", "show", request[:6])
    assert shown.exit_code == 0, shown.stderr
    assert "digits:v1 to production?" in shown.stdout
    assert str(office.asked(request).request.artifact_digest) in shown.stdout
    assert str(run) in shown.stdout

    unsigned = office.modelway("approvals", "approve", request, "--as", ANN, "--reason", "better", "--yes")
    assert (unsigned.exit_code, "give your key by --key FILE" in unsigned.stderr) == (4, True), unsigned.output
    assert office.prefect.read(run).state == waits, "nothing was sent"

    given = office.modelway(
        "--json", "approvals", "approve", request, "--key", office.keys[ANN], "--reason", "better", "--yes", "--no-wait"
    )
    assert given.exit_code == 0, given.stderr
    answer = json.loads(given.stdout)
    assert (answer["approver"], answer["signed"], answer["recorded"]) == (ANN, True, False)
    assert "modelway-approval/1" in given.stderr, "what is signed is shown"
    assert str(office.asked(request).request.artifact_digest) in given.stderr
    office.carry(run)
    assert office.stage() == "production"
    (approval,) = office.registry.get_version("digits", 1).approvals
    assert (approval.approver, approval.method, approval.reason) == (ANN, "signature", "better")
    assert office.modelway("--url", office.registry.url, "approvals", "list").stdout == "nothing waits for an answer\n"


def test_what_is_no_answer_is_refused_and_said_in_a_new_form(office: Office) -> None:
    office.guard(signed=True)
    run, request = office.ask()
    other_run, other_request = office.ask("letters")
    waits = office.prefect.read(run).state
    whole = signed(office, request, ANN)
    for fields in ({}, {"decision": "approve"}, {**whole, "decision": "maybe"}, {**whole, "approver": " "}):
        assert office.prefect.answer(run, **fields).status.value == "REJECT", fields
    assert office.prefect.read(run).state == waits, "an empty or half-filled resume changes nothing"

    forgeries: list[tuple[Mapping[str, Any] | None, str]] = [
        (None, "resumed without an answer"),
        ({}, "resumed without an answer"),
        ({**whole, "signature": "ed25519:" + "A" * 86 + "=="}, f"the signature is not that of {ANN!r}"),
        ({**whole, "approver": BOB}, f"the signature is not that of {BOB!r}"),
        (signed(office, request, EVE), f"{EVE!r} has no key in this registry"),
    ]
    for heard, (forged, why) in enumerate(forgeries, 1):
        forge(office, run, forged)
        office.carry(run)
        assert office.asked(request).heard == heard, "each is heard once"
        assert why in office.asked(request).refused[-1].why
        assert why in office.prefect.form(run).description, "the new form says why"
        assert office.stage() == "development"
    assert not office.asked(request).answers

    assert office.prefect.answer(run, **whole).status.value == "ACCEPT", "the person it was stolen from is still heard"
    office.carry(run)
    assert office.stage() == "production"
    assert office.stage(model="letters") == "development"
    forge(office, other_run, whole)  # what was good for one run is replayed onto another
    office.carry(other_run)
    assert f"the signature is not that of {ANN!r}" in office.asked(other_request, "letters").refused[-1].why
    assert office.stage(model="letters") == "development"


def test_two_people_answer_and_approve_waits_until_the_log_has_it(office: Office) -> None:
    office.guard(min_approvals=2)
    run, request = office.ask()

    def give(who: str, verb: str = "approve") -> tuple[int, str]:
        words = ("approvals", verb, request, "--as", who, "--reason", "because", "--yes")
        carrying = threading.Thread(target=_carry_when_resumed, args=(office, run))
        carrying.start()
        ended = office.modelway(*words)
        carrying.join()
        return ended.exit_code, ended.output

    code, said = give(BOB)
    assert (code, "the registry's log has it" in said) == (0, True), said
    assert office.stage() == "development", "one of two"
    listed = office.modelway("approvals", "list").stdout
    assert f"approve by {BOB} of 2 needed" in listed
    assert request in listed
    for who, why in ((BOB, "has approved already"), (CARL, "asked for this move"), (EVE, "is no approver")):
        code, said = give(who)
        assert (code, why in said) == (4, True), said
        assert why in office.prefect.form(run).description
    assert [one.approver for one in office.asked(request).answers] == [BOB]
    code, said = give(ANN)
    assert code == 0, said
    assert office.stage() == "production"

    run, request = office.ask()
    code, said = give(BOB, "reject")
    assert code == 0, said
    assert office.stage(2) == "development"
    assert office.prefect.read(run).state.type.value == "COMPLETED"  # type: ignore[union-attr]


def _carry_when_resumed(office: Office, run: UUID) -> None:
    office.prefect.wait_for(run, "SCHEDULED")
    office.carry(run)


def test_of_many_at_once_one_is_taken_and_the_others_are_told_who(office: Office) -> None:
    office.guard()
    run, request = office.ask()
    waiting, people = office.prefect.read(run), [f"p{number}@example.com" for number in range(6)]
    together = threading.Barrier(len(people))

    def answer(who: str, reason: str = "mine") -> str:
        with office.prefect.settings(), patient_server() as client:
            together.wait()
            try:
                hand_over(client, waiting, {"decision": "approve", "approver": who, "reason": reason})
            except ConflictError as error:
                return f"{error.exit_code}: {error}"
        return ""

    with ThreadPoolExecutor(len(people)) as pool:
        told = dict(zip(people, pool.map(answer, people), strict=True))
    (winner,) = [who for who, words in told.items() if not words]
    assert all(f"5: {winner!r} answered {request} first" in words for who, words in told.items() if who != winner)
    together = threading.Barrier(1)
    assert not answer(winner), "the same answer once more: only the server's word of it was lost"
    assert "answered" in answer(winner, "another")
    before = office.asked(request)
    office.carry(run)
    assert [one.approver for one in office.asked(request).answers] == [winner]
    with office.prefect.settings(), patient_server() as client:
        assert wait_for_record(client, waiting, office.registry, before, winner)
        with pytest.raises(ModelwayError, match="ended without recording the answer"):
            wait_for_record(client, waiting, office.registry, before, "nobody@example.com")


def test_a_busy_server_and_lost_answers_are_asked_again(office: Office) -> None:
    office.guard()
    run, request = office.ask()
    faults: list[Fault] = ["busy", "lost before", "busy", "lost after"]
    with (
        faulty(office.prefect.api_url, path_ends="/resume", faults=faults) as behind,
        office.prefect.settings(),
        temporary_settings({PREFECT_API_URL: behind}),
        patient_server() as client,
    ):
        hand_over(client, office.prefect.read(run), {"decision": "approve", "approver": BOB, "reason": "because"})
    assert not faults, "each of them befell the answer"
    office.carry(run)
    assert [one.approver for one in office.asked(request).answers] == [BOB]
    assert office.stage() == "production"


def test_a_run_whose_suspension_was_confirmed_to_nobody_shows_its_form_all_the_same(office: Office) -> None:
    office.guard()
    faults: list[Fault] = ["lost after"]
    api = office.prefect.api_url
    with faulty(api, path_ends="/set_state", faults=faults, holding=b"Suspended") as behind:
        run, request = office.ask(through=behind)
    assert not faults, "it befell the suspension"
    assert request in office.prefect.form(run).description


def test_a_run_whose_labels_were_changed_is_not_answered(office: Office) -> None:
    office.guard()
    run, request = office.ask()
    office.registry.register("digits", b"other weights")
    with office.prefect.client() as client:
        client.update_flow_run_labels(run, {"modelway.version": "v2"})
    refused = office.modelway("approvals", "approve", request, "--as", BOB, "--reason", "x", "--yes")
    assert refused.exit_code == 6, refused.output
    assert "expected digits:v1 to production" in refused.stderr
    assert office.asked(request).heard == 0
    with office.prefect.client() as client:
        client.update_flow_run_labels(run, {"modelway.registry": str(office.folder / "gone")})
    listed = office.modelway("approvals", "list")
    assert listed.exit_code == 0, "what cannot be read hides nothing else"
    assert "no registry at" in listed.stdout
    assert not ModelRegistry(office.folder / "gone").list_models()
