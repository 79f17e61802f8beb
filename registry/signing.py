"""Signed answers: what a person's key signs, and whether a signature holds; pure, ed25519."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final

from registry.encoding import canonical_json, digest_of
from registry.errors import InvalidInputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from registry.records import ApprovalRequest

_DOMAIN: Final = b"modelway-approval/1\n"
_ENGINE_DOMAIN: Final = b"modelway-engine/1\n"
_SCHEME: Final = "ed25519:"
_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64


def payload(registry_id: str, request: ApprovalRequest, *, decision: str, approver: str, reason: str) -> bytes:
    """Return the bytes that an answer to ``request`` signs: a domain tag and canonical JSON.

    The request stands in it whole, by its digest, and what people know it by stands in it in words.

    Args:
        registry_id: The id in the registry's ``registry.json``; the same request in a copy of it is another one.
        request: What is asked.
        decision: approve or reject.
        approver: Who answers, as the guard's ``signers`` name the person.
        reason: Why.

    Raises:
        InvalidInputError: Text that cannot be written as UTF-8.
    """
    # Without fields at their defaults: one that a later release adds must not break what was signed before it.
    whole = request.model_dump(mode="json", exclude_defaults=True)
    try:
        return _DOMAIN + canonical_json(
            {
                "registry": registry_id,
                "request": digest_of(canonical_json(whole)),
                "model": request.model,
                "version": request.version,
                "artifact_digest": request.artifact_digest,
                "policy_digest": request.policy_digest,
                "stage": request.stage.value,
                "decision": decision,
                "approver": approver,
                "reason": reason,
            }
        )
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"an answer to {request.id} cannot be signed: {error.object[error.start]!r} is no text."
        ) from None


def engine_payload(model: str, version: str, digest: str) -> bytes:
    """Return the bytes that whoever builds an engine signs: it is code, and for this version alone.

    Args:
        model: The model that the engine was built from.
        version: Its version's label.
        digest: Of the engine's report and the list of its files (``registry.variants.digest_of_variant``).
    """
    return _ENGINE_DOMAIN + canonical_json({"model": model, "version": version, "engine": digest})


def generate() -> tuple[bytes, str]:
    """Return a new private key as unencrypted PEM (PKCS #8), and its public key as ``ed25519:`` and base64."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private_pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private_pem, public_of(private_pem)


def public_of(private_pem: bytes) -> str:
    """Return the public key of a private one, as the guard's ``signers`` hold it.

    Raises:
        InvalidInputError: No ed25519 key in unencrypted PEM.
    """
    return _SCHEME + base64.b64encode(_private(private_pem).public_key().public_bytes_raw()).decode()


def check_public(public: str) -> str:
    """Return a public key as it was given, for whoever stores one.

    Raises:
        InvalidInputError: It is not ``ed25519:`` and the base64 of 32 bytes.
    """
    if _raw(public, _KEY_BYTES) is None:
        raise InvalidInputError(
            f"{public!r} is no public key; one is {_SCHEME} and the base64 of 32 bytes, as `modelway approvals keygen` "
            f"prints it."
        )
    return public


def sign(private_pem: bytes, payload: bytes) -> str:
    """Return the signature of ``payload`` as ``ed25519:`` and base64.

    Raises:
        InvalidInputError: No ed25519 key in unencrypted PEM.
    """
    return _SCHEME + base64.b64encode(_private(private_pem).sign(payload)).decode()


def verifies(public: str, signature: str, payload: bytes) -> bool:
    """Return whether ``signature`` is that of ``payload`` by the owner of ``public``; malformed ones are not."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key, given = _raw(public, _KEY_BYTES), _raw(signature, _SIGNATURE_BYTES)
    if key is None or given is None:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(given, payload)
    except InvalidSignature:
        return False
    return True


def _private(private_pem: bytes) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(private_pem, password=None)
    except TypeError:  # how cryptography says that a password is missing
        raise InvalidInputError(
            "the key is protected by a passphrase; `openssl pkey -in FILE -out PLAIN` takes it away."
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidInputError("that is no private key in PEM; `modelway approvals keygen` makes one.") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidInputError("that is a private key, but none for ed25519; `modelway approvals keygen` makes one.")
    return key


def _raw(text: str, size: int) -> bytes | None:
    """Return the bytes that a key or signature stands for; None unless it is written in the one way there is."""
    try:
        raw = base64.b64decode(text.removeprefix(_SCHEME), validate=True)
    except (binascii.Error, ValueError):
        return None
    # Encoded again, because base64 has spare bits: a second spelling of a signature would pass as another one.
    canonical = _SCHEME + base64.b64encode(raw).decode()
    return raw if len(raw) == size and canonical == text else None
