"""Emulators of the three clouds, each started once for this folder, and racing for its own free port."""

from __future__ import annotations

from cloud_emulators import azure, gcs, s3

__all__ = ["azure", "gcs", "s3"]
