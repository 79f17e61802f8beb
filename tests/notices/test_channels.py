"""What arrives at a mail server, at Slack and at a webhook, and what is told when it does not."""

from __future__ import annotations

import base64
import logging
import socket
import threading

import pytest
from pydantic import SecretStr
from sinks import Hook, Mailbox

from registry.errors import InvalidInputError
from tasks import notifying
from tasks.channels import signature
from tasks.notices import Notice, NoticeSettings
from tasks.notifying import send


def settings(*channels: str, signed_by: str | None = None) -> NoticeSettings:
    hidden = None if signed_by is None else SecretStr(signed_by)
    return NoticeSettings(channels=tuple(map(SecretStr, channels)), webhook_secret=hidden)


def part(box: Mailbox, kind: str) -> str:
    found = box.messages[0].get_body((kind,))
    assert found is not None
    text: str = found.get_content()
    return text.replace("\r\n", "\n")


# --------------------------------------------------------------------------------------------------------------- mails
def test_a_mail_holds_the_evidence_as_text_and_as_html_with_tables_and_the_link(
    mailbox: Mailbox, notice: Notice
) -> None:
    assert send(settings(mailbox.address), notice) == []

    ((envelope, message),) = mailbox.received
    assert envelope.rcpt_tos == ["ann@example.com", "bob+models@example.com"]
    assert message["Subject"] == "digits:v2 waits for an approval to production"
    text, html = part(mailbox, "plain"), part(mailbox, "html")
    assert "ann@example.com asks whether digits:v2 may go to production. It expires at 2026-03-04 12:00 UTC." in text
    assert "| accuracy | 0.98 |" in text
    assert "| a|b <i> | 1 |" in text
    assert f"<{notice.link}>" in text
    assert "<td>accuracy</td>\n<td>0.98</td>" in html
    assert "<td>a|b &lt;i&gt;</td>" in html
    assert f'<a href="{notice.link}">' in html


def test_html_and_pictures_in_words_and_evidence_are_shown_and_not_rendered(mailbox: Mailbox, notice: Notice) -> None:
    hostile = '<script>alert(1)</script> <img src="http://x/"> ![p](http://x/p) [here](javascript:alert(1))'
    sent = notice.model_copy(update={"words": hostile, "evidence": f"{hostile}\n\n<table><tr><td>{hostile}"})

    assert send(settings(mailbox.address), sent) == []

    html = part(mailbox, "html")
    for tag in ("<script", "<img", "<table", 'href="javascript'):
        assert tag not in html
    assert hostile in part(mailbox, "plain")


def test_a_line_break_in_a_title_makes_no_header_of_a_mail(mailbox: Mailbox) -> None:
    sent = Notice(kind="failed", title="A run failed\nBcc: eve@example.com", words="x", model="digits", url="u")

    assert send(settings(mailbox.address), sent) == []

    ((envelope, message),) = mailbox.received
    assert envelope.rcpt_tos == ["ann@example.com", "bob+models@example.com"]
    assert message["Bcc"] is None
    assert message["Subject"] == "A run failed Bcc: eve@example.com"


# --------------------------------------------------------------------------------------------------- webhooks and Slack
def test_a_webhook_gets_every_field_as_json_and_the_signature_of_what_it_got(
    hook: Hook, notice: Notice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRET", "s3cret")

    assert send(settings(f"http://{hook.place}/hook?team=a", signed_by="${HOOK_SECRET}"), notice) == []

    (posted,) = hook.received
    assert posted.path == "/hook?team=a"
    assert posted.headers["content-type"] == "application/json"
    assert Notice.model_validate_json(posted.body) == notice
    assert posted.json["kind"] == "pending"
    assert posted.json["url"] == "gs://models/registry"
    assert posted.headers["x-modelway-signature"] == signature("s3cret", posted.body)
    assert signature("other", posted.body) != signature("s3cret", posted.body)


def test_a_webhook_without_a_secret_is_not_signed(hook: Hook, notice: Notice) -> None:
    assert send(settings(f"http://{hook.place}/hook"), notice) == []

    assert "x-modelway-signature" not in hook.received[0].headers


def test_slack_gets_the_words_and_a_link_and_rings_nobody(hook: Hook, notice: Notice) -> None:
    sent = notice.model_copy(update={"words": "<!channel> <@U1> <http://x|here> & " + "long " * 1000})

    assert send(settings(f"slack://{hook.place}/services/T/B/X"), sent) == []

    (posted,) = hook.received
    assert posted.path == "/services/T/B/X"
    assert set(posted.json) == {"text", "unfurl_links"}
    text = posted.json["text"]
    assert text.startswith("*digits:v2 waits for an approval to production*\n&lt;!channel&gt; &lt;@U1&gt; ")
    assert text.count("<") == 1, "the only link is ours"
    assert text.endswith(f"<{notice.link}|The run, with the evidence>")
    assert len(text) < 3000
    assert "| accuracy |" not in text, "Slack draws no tables"


# ------------------------------------------------------------------------------------------------- what does not arrive
def test_a_dead_channel_is_told_and_keeps_nothing_from_the_others(
    hook: Hook, mailbox: Mailbox, notice: Notice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        channels = (
            f"http://127.0.0.1:{port}/hook",
            f"mailto://127.0.0.1:{port}?from=a@example.com&to=b@example.com",
            "${NOWHERE}",
            mailbox.address,
            f"http://{hook.place}/hook",
        )
        lines = send(settings(*channels), notice)

    assert lines == [
        "channel 1 (http://127.0.0.1) did not take the notice: ConnectionRefusedError: Connection refused",
        "channel 2 (mailto://127.0.0.1) did not take the notice: ConnectionRefusedError: Connection refused",
        "channel 3 did not take the notice: the environment that the run is in has no NOWHERE; set it there.",
    ]
    assert len(mailbox.received) == len(hook.received) == 1


@pytest.mark.parametrize("status", [302, 404, 500])
def test_an_answer_that_is_no_success_is_told_and_a_redirect_is_none(hook: Hook, notice: Notice, status: int) -> None:
    hook.status = status

    (line,) = send(settings(f"http://{hook.place}/hook"), notice)

    assert line == f"channel 1 (http://127.0.0.1) did not take the notice: HTTPError: {status}"
    assert len(hook.received) == 1


def test_a_channel_that_takes_a_connection_and_says_nothing_holds_nobody_up(
    notice: Notice, monkeypatch: pytest.MonkeyPatch, hook: Hook
) -> None:
    monkeypatch.setattr(notifying, "SEND_WITHIN_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        lines = send(settings(f"http://{place}/", f"http://{hook.place}/"), notice)
        left = [thread for thread in threading.enumerate() if thread.name == "notice-1"]

        assert lines == ["channel 1 did not take the notice within 0.5 s"]
        assert len(hook.received) == 1
        assert [thread.daemon for thread in left] == [True], "it is still trying, and would hold no process"
    for thread in left:
        thread.join()


def test_a_notice_of_a_kind_that_is_not_wanted_is_not_sent(hook: Hook, notice: Notice) -> None:
    only = NoticeSettings(channels=(SecretStr(f"http://{hook.place}/"),), on=("failed",))

    assert send(only, notice) == []
    assert hook.received == []


# ------------------------------------------------------------------------------------------------------------- secrets
def test_no_secret_is_in_what_is_told_logged_or_shown(
    hook: Hook, notice: Notice, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    hook.status = 500
    monkeypatch.setenv("SLACK_URL", f"slack://{hook.place}/services/T0/B0/hidden")
    monkeypatch.setenv("TOKEN", "hid/d@en")
    channels = (
        "${SLACK_URL}",
        f"http://user:${{TOKEN}}@{hook.place}/${{TOKEN}}",
        "http://user:hid/den@127.0.0.1:hidden/",
        "mailto://user:hidden@127.0.0.1?from=a@example.com&to=b@example.com",
        "mailto://127.0.0.1:hidden?from=a@example.com&to=b@example.com",
        "http://127.0.0.1:hidden/",
    )
    made = settings(*channels, signed_by="hidden")

    lines = send(made, notice)

    assert len(lines) == len(channels)
    assert {posted.path for posted in hook.received} == {"/services/T0/B0/hidden", "/hid%2Fd%40en"}
    (known,) = [posted.headers["authorization"] for posted in hook.received if "authorization" in posted.headers]
    assert base64.b64decode(known.removeprefix("Basic ")) == b"user:hid/d@en"
    for shown in ("\n".join(lines), caplog.text, repr(made), str(made), made.model_dump_json()):
        assert "hid" not in shown


def test_a_password_is_not_sent_in_the_clear(mailbox: Mailbox, notice: Notice) -> None:
    address = mailbox.address.replace("mailto://", "mailto://models:word@")

    (line,) = send(settings(address), notice)

    assert line.endswith("a password would be sent in the clear: write mailtos:// instead of mailto://.")
    assert mailbox.received == []


def test_mailtos_goes_on_only_when_the_server_offers_tls(mailbox: Mailbox, notice: Notice) -> None:
    (line,) = send(settings(mailbox.address.replace("mailto://", "mailtos://")), notice)

    assert line.endswith("did not take the notice: SMTPNotSupportedError")
    assert mailbox.received == []


# ------------------------------------------------------------------------------------------------------------ settings
@pytest.mark.parametrize("address", ["exec://rm", "file:///etc/hidden", "hidden", "syslog://", ""])
def test_an_address_that_is_no_channel_is_refused_without_being_shown(address: str) -> None:
    with pytest.raises(
        ValueError, match="begins with mailto://, mailtos://, slack://, slacks://, http://, https://"
    ) as no:
        settings(address)
    assert "hidden" not in str(no.value)


def test_a_variable_that_holds_no_channel_is_told_when_it_is_sent(
    notice: Notice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHANNEL", "exec://hidden")

    (line,) = send(settings("${CHANNEL}"), notice)

    assert "a channel is an address that begins with mailto://" in line
    assert "hidden" not in line


def test_settings_are_read_from_json_as_a_pipeline_file_gives_them() -> None:
    read = NoticeSettings.model_validate_json(
        '{"channels": ["${SLACK_URL}"], "on": ["failed"], "expiring_before_hours": 6, "webhook_secret": "${SECRET}"}'
    )
    assert [channel.get_secret_value() for channel in read.channels] == ["${SLACK_URL}"]
    assert (read.on, read.expiring_before_hours) == (("failed",), 6.0)
    assert NoticeSettings().channels == ()
    with pytest.raises(ValueError, match="Input should be 'pending', 'decided', 'expiring' or 'failed'"):
        NoticeSettings.model_validate_json('{"on": ["always"]}')


def test_a_mail_channel_without_an_address_to_send_to_says_how_to_write_it(notice: Notice) -> None:
    (line,) = send(settings("mailto://127.0.0.1:1"), notice)

    assert line.endswith("a mail's address is mailto://HOST[:PORT]?from=ADDRESS&to=ADDRESS,ADDRESS.")
    assert issubclass(InvalidInputError, ValueError)
