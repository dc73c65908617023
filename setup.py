"""The compiled build: ``TURBO_COMPILE=1 pip install .`` compiles the hot modules with mypyc.

Without the variable the package stays pure Python and needs neither a compiler nor mypy. All else about the package is
in ``pyproject.toml``; mypyc's settings are in ``mypyc.ini``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from setuptools import setup

#: mypyc is a part of mypy. One exact version, because what it compiles wrongly differs from version to version.
MYPY = "mypy==2.4.1"

#: The compiled modules, below ``turbo``: those that run for each message, in the master and in the children.
MODULES = """
    adopted/batch_runs adopted/executor
    amqp/consume/ack_ledger amqp/frame_splitter
    child/documents child/endings child/intake child/plan child/reporting
    master/children/child_process
    master/delivery/dispatcher master/delivery/ledger master/delivery/units
    master/outcome/outcomes master/outcome/settlement
    native/batch_runs native/executor
    policy/admission policy/child_lifecycle policy/look_ahead policy/poison policy/prefetch policy/settling
    policy/start_signals policy/time_limits
    protocol/body protocol/deliver protocol/header_cache protocol/message protocol/own_headers protocol/peek
    protocol/table protocol/tagged_json
    ring/body_files ring/child_link ring/control_page ring/frames ring/master_link ring/outcome_ring
    ring/oversize ring/task_ring
""".split()


def _main() -> None:
    here = Path(__file__).parent
    wanted = os.environ.get("TURBO_COMPILE") == "1"
    extensions = []
    if wanted and "bdist_wheel" in sys.argv:
        from mypyc.build import mypycify

        extensions = mypycify(
            ["--config-file", str(here / "mypyc.ini"), *(f"turbo/{module}.py" for module in MODULES)],
            opt_level="2",
            debug_level="0",
            multi_file=False,
            group_name="turbo",
        )
    # Asked for by the build front end before it builds; a build without the variable must not need mypy.
    requires = [MYPY] if wanted and "egg_info" in sys.argv else []
    setup(ext_modules=extensions, setup_requires=requires)


if __name__ == "__main__":
    _main()
