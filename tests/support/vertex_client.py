"""Google's client of Vertex AI, in a folder of its own beside this environment's packages.

It cannot be one of the development tools: the release of google-genai that it asks for, which neither the target nor
these tests use, does not go with the pinned tenacity. So it is installed without what it depends on, by whoever asks
first, and found behind the packages of the environment, which have all that is imported.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

_PACKAGES = ["google-cloud-aiplatform==2.7.0"]
_FOR_THE_SDK = ["google-cloud-bigquery==3.47.0", "google-cloud-resource-manager==1.19.0"]


def with_vertex_client() -> None:
    """Make ``google.cloud.aiplatform_v1`` importable, and ``google.cloud.aiplatform`` with it."""
    if importlib.util.find_spec("google.cloud") and importlib.util.find_spec("google.cloud.aiplatform_v1"):
        return
    home = Path(sys.prefix) / f"vertex-{'-'.join(one.partition('==')[2] for one in _PACKAGES)}"
    with FileLock(f"{home}.lock"):
        if not (home / "installed").exists():
            command = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*command, "--target", str(home), *_PACKAGES, *_FOR_THE_SDK], check=True, timeout=280)
            (home / "installed").touch()
    sys.path.append(str(home))
    importlib.invalidate_caches()
