"""The commands where there is no server to ask: a message that says what to do."""

from __future__ import annotations

from deployments_folder import DeploymentsFolder
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner, Result

from deployments.deployments_cli import make_deployments_app
from registry.cli.app import make_app


def modelway(*arguments: str) -> Result:
    app = make_app()
    app.add_typer(make_deployments_app(), name="deployments")
    return CliRunner().invoke(app, ["deployments", *arguments])


def test_no_server_is_named(deployments: DeploymentsFolder) -> None:
    deployments.write()
    with temporary_settings({PREFECT_API_URL: None}):
        refused = modelway("apply", str(deployments.file))
    assert (refused.exit_code, refused.stderr.strip()) == (
        2,
        "error: no Prefect server is named: set PREFECT_API_URL, for example to http://127.0.0.1:4200/api.",
    )


def test_the_server_that_is_named_is_not_there(deployments: DeploymentsFolder) -> None:
    deployments.write()
    for arguments in (["apply", str(deployments.file)], ["show"], ["request-retraining", "digits"]):
        refused = modelway(*arguments)
        assert refused.exit_code == 1
        assert "the Prefect server at http://127.0.0.1:9/api cannot be reached" in refused.stderr


def test_a_mistake_in_the_file_is_told_before_the_server_is_asked(deployments: DeploymentsFolder) -> None:
    deployments.file.write_text("pools: []\n")
    refused = modelway("apply", str(deployments.file))
    assert refused.exit_code == 2
    assert f"{deployments.file}:1: pools: " in refused.stderr
