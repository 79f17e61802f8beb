"""``python -m registry.testing``; the work is in a module that worker processes can import by its name."""

from registry.testing.program import main

if __name__ == "__main__":
    raise SystemExit(main())
