"""Serving: the embedded Open Inference Protocol endpoint, and what an endpoint is to serve."""
