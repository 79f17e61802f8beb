"""Who serves on no Vertex AI does not pay for Google's client: it is imported with the first request."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import sys
from registry.endpoints.settings import VertexSettings
from registry.endpoints.vertex import VertexTarget

settings = VertexSettings(project="acme", region="europe-west4", staging="gs://bucket")
VertexTarget(settings, endpoint="digits", registry="ab")
heavy = ("google.api_core", "google.auth", "google.cloud.", "google.genai", "gcsfs", "tritonclient", "onnxruntime")
print(sorted(name for name in sys.modules if name.startswith(heavy)))
"""


def test_a_target_is_made_without_importing_anything_of_google() -> None:
    found = subprocess.run([sys.executable, "-c", _PROGRAM], check=True, capture_output=True, text=True)
    assert found.stdout == "[]\n"
