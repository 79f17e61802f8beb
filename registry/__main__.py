"""``python -m registry``: the command line without the verbs that need a flow."""

from __future__ import annotations

from registry.cli.app import make_app

if __name__ == "__main__":
    make_app()(prog_name="python -m registry")
