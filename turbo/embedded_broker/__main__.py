"""Runs the embedded broker here: `python -m turbo.embedded_broker --port N`.

Started by `process.run_in_subprocess`, or by hand. Prints one line when it serves.
"""

from __future__ import annotations

import sys

from turbo.embedded_broker.process import main

sys.exit(main(sys.argv[1:]))
