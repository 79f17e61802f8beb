"""Endpoints of Vertex AI, served by Triton as a custom container; docs/vertex.md."""

from registry.endpoints.vertex.target import VertexTarget

__all__ = ["VertexTarget"]
