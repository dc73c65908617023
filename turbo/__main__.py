"""``python -m turbo``: the same as the command ``turbo``."""

from __future__ import annotations

from turbo.cli.main import main

if __name__ == "__main__":
    main()
