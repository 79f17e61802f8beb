"""The command line: ``modelway`` (``deployments.cli`` adds ``run`` to it) and ``python -m registry``."""
