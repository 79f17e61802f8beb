"""Triton as a place that serves: a model repository written from the registry, and model control over gRPC."""
