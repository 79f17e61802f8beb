"""Signed engines: whose key signs what is built, and whether a kept one is signed by somebody whom the guard names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from registry.encoding import canonical_json, digest_of
from registry.errors import InvalidInputError, RefusedError
from registry.guard import Guard
from registry.records import Variant
from registry.signing import engine_payload, public_of, sign, verifies

SIGNING_KEY = "MODELWAY_SIGNING_KEY"
"""The environment variable that names the private key, a PEM file, that engines are signed with."""


@dataclass(frozen=True)
class EngineSigner:
    """Whose key signs what is built, and the key in PEM."""

    name: str
    private_pem: bytes


def engine_signer(guard: Guard, private_pem: bytes | None) -> EngineSigner | None:
    """Return who signs: the owner of the given key, or of the one that the environment names; None without a key.

    Args:
        guard: Its ``signers`` say whose key it is.
        private_pem: The private key; None for the file that MODELWAY_SIGNING_KEY names, if it names one.

    Raises:
        InvalidInputError: It cannot be read, or is none of the signers'.
        RefusedError: There is no key, and the registry takes only signed engines.
    """
    file = os.environ.get(SIGNING_KEY)
    if private_pem is None and file:
        try:
            private_pem = Path(file).read_bytes()
        except OSError as error:
            raise InvalidInputError(f"{SIGNING_KEY} names {file}, which cannot be read: {error.strerror}.") from error
    if private_pem is None:
        if guard.signed_engines:
            raise RefusedError(
                f"this registry takes only signed engines: give a signer's key, by --key FILE or {SIGNING_KEY}. "
                "Nothing was built."
            )
        return None
    public = public_of(private_pem)
    name = next((name for name, known in guard.signers.items() if known == public), None)
    if name is None:
        listed = ", ".join(guard.signers) or "nobody"
        raise InvalidInputError(f"the key {public} is none of the registry's signers, who are: {listed}.")
    return EngineSigner(name, private_pem)


def signed(variant: Variant, model: str, version: str, signer: EngineSigner | None) -> Variant:
    """Return an engine with its signature; as it is without a signer."""
    if signer is None:
        return variant
    payload = engine_payload(model, version, _digest_of(variant))
    return variant.model_copy(update={"signer": signer.name, "signature": sign(signer.private_pem, payload)})


def check_signature(guard: Guard, variant: Variant, model: str, version: str) -> None:
    """Refuse an engine that none of the guard's signers has signed.

    Raises:
        RefusedError: It has no signature, or one that is not by the key of whom it names.
    """
    key = None if variant.signer is None else guard.key_of(variant.signer)
    payload = engine_payload(model, version, _digest_of(variant))
    if key is None or variant.signature is None or not verifies(key, variant.signature, payload):
        what = f"is not by the key of {variant.signer}" if variant.signature else "is missing"
        raise RefusedError(
            f"the {variant.report.engine} engine of {model}:{version} is not opened: this registry takes only signed "
            f"engines, and its signature {what}. Register the model again, and optimise it with a signer's key."
        )


def _digest_of(variant: Variant) -> str:
    """Return the digest of what is signed: the report, and the list of files."""
    manifest = None if variant.manifest is None else variant.manifest.model_dump(mode="json")
    return digest_of(canonical_json({"report": variant.report.model_dump(mode="json"), "files": manifest}))
