"""What Prefect's server, as `modelway server` starts it, lets nobody do; on a real one."""

from __future__ import annotations

import base64
import json
import socket
import stat
import subprocess
from pathlib import Path

import psutil
import pytest
from closed_server import PROGRAM, READY_WITHIN_S, Served, free_port, words
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol
from working_folder import house_in

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1800)]  # a server takes minutes to start where many do

CHANGES = {"name": "forged", "value": 1}


def _variables(served: Served) -> list[str]:
    """Return the names of Prefect's variables, read with everything that a client needs."""
    with (
        temporary_settings(
            {PREFECT_API_URL: f"{served.url}/api", PREFECT_API_AUTH_STRING: served.auth_string},
        ),
        get_client(sync_client=True) as client,
    ):
        return [variable.name for variable in client.read_variables()]


def test_who_has_no_auth_string_or_a_wrong_one_reads_nothing(served: Served) -> None:
    user, _, password = served.auth_string.partition(":")
    path = "/api/admin/settings"
    for credentials in (None, (user, "guessed"), (user, ""), ("", password), (user, password[:-1])):
        answer = served.ask_as_anybody("GET", path, auth=credentials)
        assert (answer.status_code, answer.json()) == (401, {"exception_message": "Unauthorized"})
    assert (
        served.ask_as_anybody("GET", path, headers={"Authorization": f"Bearer {served.auth_string}"}).status_code == 401
    )
    assert served.ask("GET", "/api/admin/settings").status_code == 200
    assert served.ask_as_anybody("GET", "/api/csrf-token", params={"client": "x"}).status_code == 401


def test_who_has_no_auth_string_changes_nothing_even_with_a_token_for_forms(served: Served) -> None:
    token = served.ask("GET", "/api/csrf-token?client=mine").json()["token"]
    form = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "mine"}
    answer = served.ask_as_anybody("POST", "/api/variables/", json=CHANGES, headers=form)
    assert answer.status_code == 401
    assert _variables(served) == []


def test_a_change_without_a_token_for_forms_is_refused(served: Served) -> None:
    answer = served.ask("POST", "/api/variables/", json=CHANGES)
    assert (answer.status_code, answer.json()) == (403, {"detail": "Missing CSRF token."})
    forged = {"Prefect-Csrf-Token": "0" * 64, "Prefect-Csrf-Client": "mine"}
    assert served.ask("POST", "/api/variables/", json=CHANGES, headers=forged).status_code == 403
    assert _variables(served) == []


def test_events_are_neither_taken_from_nor_shown_to_who_has_no_auth_string(served: Served) -> None:
    for way in ("in", "out"):
        address = f"{served.url.replace('http', 'ws')}/api/events/{way}"
        with connect(address, subprotocols=[Subprotocol("prefect")]) as socket_:
            socket_.send(json.dumps({"type": "auth", "token": "guessed"}))
            with pytest.raises(ConnectionClosed):
                socket_.recv(timeout=120)
        with pytest.raises(InvalidStatus, match="403"), connect(address):
            pass


def test_a_page_of_another_site_gets_no_permission(served: Served) -> None:
    for origin in (
        "https://evil.example",
        "null",
        f"http://localhost:{served.port}",
        f"http://127.0.0.1:{served.port + 1}",
    ):
        read = served.ask("GET", "/api/admin/version", headers={"Origin": origin})
        assert "access-control-allow-origin" not in read.headers
        wanted = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        asked = served.ask_as_anybody("OPTIONS", "/api/flow_runs/filter", headers=wanted)
        assert asked.status_code == 400
        assert "access-control-allow-origin" not in asked.headers
    own = served.ask("GET", "/api/admin/version", headers={"Origin": served.url})
    assert own.headers["access-control-allow-origin"] == served.url


def test_its_pages_know_where_the_api_is_and_ask_for_the_auth_string(served: Served) -> None:
    settings = served.ask_as_anybody("GET", "/ui-settings").json()
    assert (settings["api_url"], settings["auth"], settings["csrf_enabled"]) == ("/api", "BASIC", True)
    page = served.ask_as_anybody("GET", "/v2/login", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert "<html" in page.text


def test_it_tells_nobody_that_it_runs(served: Served) -> None:
    told = served.ask("GET", "/api/admin/settings").json()["server"]
    assert told["analytics_enabled"] is False


def test_it_listens_on_loopback_only(served: Served) -> None:
    listening = [
        found.laddr for found in psutil.Process(served.process.pid).net_connections() if found.status == "LISTEN"
    ]
    assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", served.port)]
    others = [
        found.address for card in psutil.net_if_addrs().values() for found in card if found.family == socket.AF_INET
    ]
    for address in {"127.0.0.2", *others} - {"127.0.0.1"}:
        with pytest.raises(OSError, match=r"refused|unreachable|timed out"):
            socket.create_connection((address, served.port), timeout=5).close()


def test_what_it_keeps_is_for_its_owner_only_and_it_never_tells_the_auth_string(served: Served) -> None:
    home = Path(served.house.environment["PREFECT_HOME"])
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.iterdir() if path.is_file()}
    assert {"modelway-auth", "prefect.db"} <= modes.keys()
    assert {name: mode for name, mode in modes.items() if mode & 0o077} == {}
    told = served.log.read_text()
    assert served.auth_string not in told
    assert served.auth_string.partition(":")[2] not in told
    assert base64.b64encode(served.auth_string.encode()).decode() not in told


def test_what_it_prints_is_what_a_client_needs(served: Served) -> None:
    exports = [line for line in served.log.read_text().splitlines() if line.startswith("  export PREFECT_API_")]
    script = "\n".join([*exports, 'echo "$PREFECT_API_URL $PREFECT_API_AUTH_STRING"'])
    printed = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout  # noqa: S607  # bash from PATH
    assert printed.split() == [f"{served.url}/api", served.auth_string]
    assert "modelway deployments apply" in served.log.read_text()


def test_a_second_one_on_its_port_says_so_and_leaves_it_alone(served: Served) -> None:
    auth_string = served.auth_string
    second = subprocess.run(
        [*PROGRAM, "server", "--port", str(served.port)],
        env=served.house.environment,
        capture_output=True,
        text=True,
        timeout=READY_WITHIN_S,
        check=False,
    )
    assert second.returncode == 1
    assert f"cannot listen on 127.0.0.1:{served.port}: Address already in use" in words(second.stderr)
    assert "modelway server --port" in words(second.stderr)
    assert second.stdout == ""
    assert served.auth_string == auth_string
    assert served.ask("GET", "/api/admin/version").status_code == 200


def test_an_address_that_is_none_is_refused_and_nothing_starts(tmp_path: Path) -> None:
    house = house_in(tmp_path)
    for host in ("no.such.host.invalid", "192.0.2.1"):
        command = [*PROGRAM, "server", "--host", host, "--port", str(free_port())]
        ended = subprocess.run(
            command, env=house.environment, capture_output=True, text=True, timeout=READY_WITHIN_S, check=False
        )
        assert ended.returncode in {1, 2}
        assert host in words(ended.stderr)
        assert ended.stdout == ""
