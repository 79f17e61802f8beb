"""Signatures over answers: what they hold for, and everything that they do not."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.errors import InvalidInputError
from registry.records import ApprovalRequest
from registry.signing import check_public, generate, payload, public_of, sign, verifies
from registry.stages import ModelStage

GOLDEN = Path(__file__).with_name("golden")
PRIVATE, PUBLIC = generate()
ASKED_AT = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
ANSWER = {"decision": "approve", "approver": "bob@example.com", "reason": "it is better"}

untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
requests = st.builds(
    ApprovalRequest,
    id=words,
    model=words,
    version=words,
    stage=st.sampled_from(ModelStage),
    artifact_digest=st.none() | words,
    policy_digest=words,
    incumbent=st.none() | words,
    requested_by=words,
    requested_at=st.datetimes(timezones=st.just(UTC)),
    expires_at=st.none() | st.datetimes(timezones=st.just(UTC)),
    registry=words,
)


def request(**other: Any) -> ApprovalRequest:
    fields: dict[str, Any] = {
        "id": "0123456789ab",
        "model": "digits",
        "version": "v3",
        "stage": ModelStage.PRODUCTION,
        "artifact_digest": "sha256:1",
        "policy_digest": "sha256:2",
        "incumbent": "v2",
        "requested_by": "ann@example.com",
        "requested_at": ASKED_AT,
        "expires_at": ASKED_AT + timedelta(days=3),
        "registry": "one",
    }
    return ApprovalRequest(**fields | other)


SIGNED = payload("one", request(), **ANSWER)
SIGNATURE = sign(PRIVATE, SIGNED)


def test_a_signature_holds_for_what_was_signed() -> None:
    assert verifies(PUBLIC, SIGNATURE, SIGNED)
    assert public_of(PRIVATE) == check_public(PUBLIC) == PUBLIC


@pytest.mark.parametrize(
    "other",
    [
        {"id": "0123456789ac"},
        {"model": "letters"},
        {"version": "v4"},
        {"stage": ModelStage.STAGING},
        {"artifact_digest": "sha256:3"},
        {"artifact_digest": None},
        {"policy_digest": "sha256:3"},
        {"incumbent": "v1"},
        {"incumbent": None},
        {"requested_by": "eve@example.com"},
        {"requested_at": ASKED_AT + timedelta(microseconds=1)},
        {"expires_at": None},
        {"expires_at": ASKED_AT + timedelta(days=4)},
        {"registry": "two"},
        {"added_later": 1},
    ],
    ids=str,
)
def test_a_signature_holds_for_no_request_that_differs_in_a_field(other: dict[str, Any]) -> None:
    assert not verifies(PUBLIC, SIGNATURE, payload("one", request(**other), **ANSWER))


@pytest.mark.parametrize(
    "other", [{"decision": "reject"}, {"approver": "eve@example.com"}, {"approver": "Bob@example.com"}, {"reason": ""}]
)
def test_a_signature_holds_for_no_other_answer(other: dict[str, str]) -> None:
    assert not verifies(PUBLIC, SIGNATURE, payload("one", request(), **ANSWER | other))


def test_a_signature_holds_in_no_other_registry_and_by_no_other_key() -> None:
    assert not verifies(PUBLIC, SIGNATURE, payload("two", request(), **ANSWER))
    assert not verifies(generate()[1], SIGNATURE, SIGNED)


@untimed
@given(requests, requests, words, words, words)
def test_two_answers_have_the_same_payload_only_if_they_are_the_same(
    one: ApprovalRequest, other: ApprovalRequest, registry: str, approver: str, reason: str
) -> None:
    given_to = payload(registry, one, decision="approve", approver=approver, reason=reason)
    assert (payload(registry, other, decision="approve", approver=approver, reason=reason) == given_to) == (
        one == other
    )
    if approver != reason:
        assert payload(registry, one, decision="approve", approver=reason, reason=approver) != given_to


@untimed
@given(requests, words)
def test_the_payload_is_the_same_after_the_request_was_stored_and_read(one: ApprovalRequest, reason: str) -> None:
    stored = ApprovalRequest.model_validate_json(one.model_dump_json())
    first, second = (payload("r", each, decision="reject", approver="a", reason=reason) for each in (one, stored))
    assert first == second
    assert verifies(PUBLIC, sign(PRIVATE, second), first)


def test_no_bit_of_a_signature_can_be_turned_over() -> None:
    raw = base64.b64decode(SIGNATURE.removeprefix("ed25519:"))
    for place in range(len(raw) * 8):
        turned = bytearray(raw)
        turned[place // 8] ^= 1 << place % 8
        assert not verifies(PUBLIC, "ed25519:" + base64.b64encode(turned).decode(), SIGNED), place


def test_no_letter_of_a_signature_or_key_can_be_replaced_and_so_each_has_one_spelling() -> None:
    for place in range(len(SIGNATURE)):
        for letter in "A/=b \n\x00é":
            other = SIGNATURE[:place] + letter + SIGNATURE[place + 1 :]
            assert other == SIGNATURE or not verifies(PUBLIC, other, SIGNED), other
    last = PUBLIC[-2]  # two of its bits mean nothing in base64
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/":
        assert letter == last or not verifies(PUBLIC[:-2] + letter + "=", SIGNATURE, SIGNED)


@untimed
@given(st.text() | st.binary().map(lambda raw: "ed25519:" + base64.b64encode(raw).decode()))
def test_anything_else_is_no_signature_and_no_key(text: str) -> None:
    assert not verifies(PUBLIC, text, SIGNED)
    assert not verifies(text, SIGNATURE, SIGNED)


@pytest.mark.parametrize(
    "text", ["", "ed25519:", PUBLIC[8:], "rsa:" + PUBLIC[8:], PUBLIC + "\n", "ed25519:AAAA", "é"], ids=range(7)
)
def test_a_malformed_public_key_is_refused_with_what_one_looks_like(text: str) -> None:
    with pytest.raises(InvalidInputError, match="is no public key; one is ed25519: and the base64 of 32 bytes"):
        check_public(text)


def pem(key: Any, *, password: bytes | None = None) -> bytes:
    encryption: Any = (
        serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    )
    written: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return written


@pytest.mark.parametrize(
    ("private", "words"),
    [
        (b"", "no private key in PEM"),
        (b"\xff\x00 junk", "no private key in PEM"),
        (PRIVATE[:60], "no private key in PEM"),
        (PRIVATE.replace(b"MC4C", b"MC4D"), "no private key in PEM"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "none for ed25519"),
        (pem(Ed25519PrivateKey.generate(), password=b"word"), "protected by a passphrase"),
    ],
    ids=["empty", "junk", "cut off", "damaged", "elliptic", "passphrase"],
)
def test_a_bad_private_key_is_told_in_words(private: bytes, words: str) -> None:
    for use in (public_of, lambda key: sign(key, b"")):
        with pytest.raises(InvalidInputError, match=words):
            use(private)


def test_text_that_is_no_text_cannot_be_signed() -> None:
    with pytest.raises(InvalidInputError, match="cannot be signed"):
        payload("one", request(), decision="approve", approver="ann", reason="\ud800")


def test_a_field_that_a_later_release_adds_leaves_what_was_signed_before_valid() -> None:
    class Later(ApprovalRequest):
        added: str = "by default"

    assert verifies(PUBLIC, SIGNATURE, payload("one", Later(**dict(request())), **ANSWER))
    assert not verifies(PUBLIC, SIGNATURE, payload("one", Later(**dict(request()), added="said"), **ANSWER))


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.json")), ids=lambda file: file.stem)
def test_what_earlier_releases_signed_still_holds(file: Path) -> None:
    kept = json.loads(file.read_text(encoding="utf-8"))
    one = ApprovalRequest.model_validate_json(json.dumps(kept["request"]))
    signed = payload(one.registry, one, **kept["answer"])
    assert signed.decode() == kept["payload"]
    assert verifies(kept["public"], kept["signature"], signed)
    private = pem(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(kept["seed"])))
    assert sign(private, signed) == kept["signature"]
