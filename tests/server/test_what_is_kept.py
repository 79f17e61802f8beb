"""The auth string in its file, the settings of the server and the worker: without starting either."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from deployments.server import auth_file, database_url, kept_auth_string, server_environment, start
from deployments.worker import worker_environment
from registry.errors import InvalidInputError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    return tmp_path / "prefect"


def test_the_auth_string_is_made_once_and_only_its_owner_can_read_it(home: Path) -> None:
    first = kept_auth_string()
    assert kept_auth_string() == first
    assert len(first) > 40
    assert stat.S_IMODE(auth_file().stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert list(home.iterdir()) == [auth_file()]  # nothing temporary is left


def test_two_homes_have_different_auth_strings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = kept_auth_string()
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "other"))
    assert kept_auth_string() != first


def test_starts_at_the_same_moment_agree_on_one_auth_string() -> None:
    seen: list[str] = []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        seen.append(kept_auth_string())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert set(seen) == {kept_auth_string()}


@pytest.mark.parametrize(("mode", "text", "says"), [(0o644, "modelway:known\n", "others"), (0o600, "\n", "is empty")])
def test_an_auth_string_that_protects_nothing_is_refused_and_left_as_it_is(mode: int, text: str, says: str) -> None:
    kept_auth_string()
    auth_file().write_text(text)
    auth_file().chmod(mode)
    with pytest.raises(InvalidInputError, match=says):
        start()
    assert auth_file().read_text() == text


def test_the_server_listens_on_loopback_and_gives_no_other_page_a_permission() -> None:
    settings = server_environment(4311, "modelway:secret")
    assert settings["PREFECT_SERVER_API_HOST"] == "127.0.0.1"
    assert settings["PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:4311"
    assert not any("DATABASE" in name for name in settings)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("postgresql://ann:p%40ss@db:5433/prefect", "postgresql+asyncpg://ann:p%40ss@db:5433/prefect"),
        ("postgresql+asyncpg://ann@db/prefect?ssl=require", "postgresql+asyncpg://ann@db/prefect?ssl=require"),
        ("sqlite:////var/lib/prefect.db", "sqlite+aiosqlite:////var/lib/prefect.db"),
    ],
)
def test_a_database_is_given_with_or_without_the_driver_that_prefect_wants(given: str, taken: str) -> None:
    assert database_url(given) == taken
    assert server_environment(4200, "x", given)["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == taken


@pytest.mark.parametrize(
    "given", ["hunter2", "mysql://ann:hunter2@db/prefect", "postgresql://ann:hun:ter2@hunter2:hunter2/x", ""]
)
def test_a_database_that_cannot_be_used_is_refused_without_repeating_what_may_be_a_password(given: str) -> None:
    with pytest.raises(InvalidInputError, match="postgresql://USER:PASSWORD@HOST/NAME") as refused:
        database_url(given)
    assert "hunter2" not in str(refused.value)


def test_a_worker_joins_the_server_of_this_machine() -> None:
    kept = kept_auth_string()
    assert worker_environment()["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert worker_environment()["PREFECT_API_AUTH_STRING"] == kept


def test_the_auth_string_of_this_machine_is_not_sent_to_a_server_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = kept_auth_string()
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.example.com/api")
    assert kept not in worker_environment().values()
    assert "PREFECT_API_URL" not in worker_environment()


def test_a_worker_without_a_server_says_how_to_start_one_and_makes_nothing(home: Path) -> None:
    with pytest.raises(InvalidInputError, match="modelway server"):
        worker_environment()
    assert not home.exists()
