"""The form that Prefect shows to the person who must say yes; every field is required."""

from __future__ import annotations

from typing import Annotated, Literal

from prefect.input import RunInput
from pydantic import Field, StringConstraints

# A pattern, not a length: Prefect's server checks the form by JSON schema, which knows nothing of stripping.
_Words = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"\S")]


class ApprovalForm(RunInput):
    """An answer. No field has a default: with defaults an empty resume, or a forced state, would count as one."""

    decision: Literal["approve", "reject"] = Field(title="Decision", description="Does it go live?")
    approver: _Words = Field(title="Approver", description="Your name, as the registry's approvers list it.")
    reason: _Words = Field(title="Reason", description="Why; it is kept with the decision.")


class SignedApprovalForm(ApprovalForm):
    """An answer that proves who gave it, for registries that take no typed-in name."""

    signature: _Words = Field(
        title="Signature",
        description="By your key; `modelway approvals approve --key FILE` makes it and sends all of this.",
    )
