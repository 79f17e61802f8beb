"""Hand one notice to one channel: a mail server, Slack, or a webhook.

Apprise, which Prefect brings, was tried. Its mails lose the evidence's tables in their plain part and render HTML that
stands in names, its Slack messages ring ``<!channel>`` for whoever writes that into a reason, and its webhook has a
fixed form that cannot be signed. And the standard library logs no address, where an HTTP client would.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import json
import smtplib
import ssl
import urllib.request
from collections.abc import Mapping
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from typing_extensions import override

from registry.errors import InvalidInputError
from tasks.markdown import escaped, to_html, to_text
from tasks.notices import Notice, check_scheme

TIMEOUT_S = 5.0
"""For each step of talking to a channel."""

SIGNATURE = "X-Modelway-Signature"

_SLACKS_OWN = ("hooks.slack.com", "hooks.slack-gov.com")
_SLACK_SHOWS = 2_500
"""Characters of a notice's words; Slack folds what is longer, and cuts it off later on."""

_SSL_PORT = 465


def deliver(address: str, notice: Notice, *, secret: str | None) -> None:
    """Send a notice to the channel at ``address``, every secret in it filled in.

    Args:
        address: ``mailto[s]://``, ``slack[s]://`` or ``http[s]://``; an https address at Slack itself is Slack's too.
        notice: What to send.
        secret: Signs the body of a webhook.

    Raises:
        ValueError: The address cannot be one.
        OSError: The other end was not reached, or did not take it.
        SMTPException: The mail server refused.
    """
    scheme, parts = check_scheme(address), urlsplit(address)
    if scheme.startswith("mailto"):
        _mail(parts, notice)
    elif scheme.startswith("slack") or parts.hostname in _SLACKS_OWN:
        _post(parts, json.dumps({"text": _slack_text(notice), "unfurl_links": False}).encode(), {})
    else:
        body = notice.model_dump_json().encode()
        signed = {} if secret is None else {SIGNATURE: signature(secret, body)}
        _post(parts, body, signed)


def signature(secret: str, body: bytes) -> str:
    """Return what a webhook's header says of its body: ``sha256=`` and the hexadecimal HMAC."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _mail(parts: SplitResult, notice: Notice) -> None:
    message = _message(parts, notice)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    host, context = parts.hostname or "", ssl.create_default_context()
    if parts.scheme == "mailto" and password:
        raise InvalidInputError("a password would be sent in the clear: write mailtos:// instead of mailto://.")
    if parts.port == _SSL_PORT:
        server: smtplib.SMTP = smtplib.SMTP_SSL(host, _SSL_PORT, timeout=TIMEOUT_S, context=context)
    else:
        server = smtplib.SMTP(host, parts.port or (587 if parts.scheme == "mailtos" else 25), timeout=TIMEOUT_S)
    with server:
        if parts.scheme == "mailtos" and parts.port != _SSL_PORT:
            server.starttls(context=context)
        if password:
            server.login(user, password)
        refused = server.send_message(message)
    if refused:
        raise smtplib.SMTPRecipientsRefused(refused)


def _message(parts: SplitResult, notice: Notice) -> EmailMessage:
    # Not parse_qs, which would make a space of the plus in ann+models@example.com.
    query = {key: unquote(value) for key, _, value in (pair.partition("=") for pair in parts.query.split("&"))}
    if not parts.hostname or not query.get("from") or not query.get("to"):
        raise InvalidInputError("a mail's address is mailto://HOST[:PORT]?from=ADDRESS&to=ADDRESS,ADDRESS.")
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = notice.title, query["from"], query["to"]
    message["Date"], message["Message-ID"] = formatdate(notice.at.timestamp()), make_msgid(domain="modelway")
    message["Auto-Submitted"] = "auto-generated"
    link = f"The run: <{notice.link}>" if notice.link else ""
    markdown = "\n\n".join(filter(None, (escaped(notice.words), link, notice.evidence)))
    message.set_content(to_text(markdown))
    message.add_alternative(to_html(markdown), subtype="html")
    return message


def _slack_text(notice: Notice) -> str:
    words = notice.words if len(notice.words) <= _SLACK_SHOWS else notice.words[:_SLACK_SHOWS] + " ..."
    link = f"<{_slack(notice.link)}|The run, with the evidence>" if notice.link else ""
    return "\n".join(filter(None, (f"*{_slack(notice.title)}*", _slack(words), link)))


def _slack(words: str) -> str:
    # With these three escaped there is no <!channel>, no mention and no link but ours.
    return html.escape(words, quote=False)


def _post(parts: SplitResult, body: bytes, headers: Mapping[str, str]) -> None:
    scheme = "https" if parts.scheme in {"https", "slacks"} else "http"
    who, _, place = parts.netloc.rpartition("@")
    known = {"Authorization": "Basic " + base64.b64encode(unquote(who).encode()).decode()} if who else {}
    request = urllib.request.Request(  # noqa: S310 - the scheme is one of these two
        parts._replace(scheme=scheme, netloc=place).geturl(),
        data=body,
        headers={"Content-Type": "application/json", "User-Agent": "modelway", **known, **headers},
    )
    with urllib.request.build_opener(_Straight).open(request, timeout=TIMEOUT_S):
        pass


class _Straight(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: a POST would arrive as a GET without its body, and look as if it had been taken."""

    @override
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Return nothing, so that the answer is an error like any other."""
