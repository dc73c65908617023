"""Write docs/settings.md from the declarations in turbo/app/conf/settings.py.

Usage: ``python scripts/settings_page.py`` writes the page; ``--check`` fails when it is not current.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from turbo.adopted.setting_support import By, celerys, support
from turbo.app.conf.setting import Setting, Status
from turbo.app.conf.settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterable

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"

HEAD = """# Settings

Names and defaults are Celery's, so an existing configuration keeps its meaning. `python scripts/settings_page.py`
writes this page from `turbo/app/conf/settings.py`; do not edit it.

Sources, the strongest first: the command line, the setting's environment variable, the app (`app.conf`), the
configuration object, the default. Old upper-case names (`CELERYD_CONCURRENCY`) work too. Any setting can be given on
the command line: `turbo worker -- worker.prefetch_multiplier=1 task.acks_late=true`. Options can also come from the
environment: `--concurrency` from `TURBO_WORKER_CONCURRENCY`, otherwise from `CELERY_WORKER_CONCURRENCY`. A worker
reads its settings once, at its start. `turbo report` prints them, without passwords.

turbo does not support every setting of Celery. An unsupported one is either **without effect**, and the worker says so
once at its start, or **refused**, because ignoring it would change what the application does. Then the worker does not
start.
"""

ADOPTED = """
## Celery's apps

The tables above describe turbo's own apps. When turbo runs a `celery.Celery` app, each of Celery's settings is one of
these:

- implemented by turbo (connections, queues, limits, processes);
- implemented by Celery's own code, which runs in turbo's children and in the programs that send or schedule tasks;
- without effect: the worker names it in one warning at its start;
- refused: the worker does not start.

The first two make no difference to the app. Values from the command line are visible in the app's `conf`.
"""

GROUPS = (
    ("Only in turbo", lambda s: not s.old_names and s.status is Status.WORKS and s.env != "CELERY_BROKER_URL"),
    ("Broker", lambda s: s.name.startswith("broker_")),
    ("Tasks", lambda s: s.name.startswith("task_")),
    ("Worker", lambda s: s.name.startswith("worker_")),
    ("Results", lambda s: s.name.startswith("result_")),
    ("Redis", lambda s: s.name.startswith("redis_")),
    ("General", lambda s: s.name in {"accept_content", "enable_utc", "imports", "include", "timezone"}),
    ("Everything else", lambda s: True),
)


def _default(setting: Setting) -> str:
    text = str(setting.default) if setting.kind == "any" and setting.default is None else repr(setting.default)
    return f"`{text}`".replace("|", "\\|")


def _row(setting: Setting) -> str:
    doc = setting.doc.replace("``", "`").replace("|", "\\|")
    if setting.cli:
        doc += f" Option: `{setting.cli}`."
    if setting.env:
        doc += f" Environment: `{setting.env}`."
    return f"| `{setting.name}` | {setting.kind} | {_default(setting)} | {doc} |"


def _table(settings: Iterable[Setting]) -> list[str]:
    return ["", "| setting | type | default | meaning |", "|---|---|---|---|", *map(_row, settings)]


def _unsupported(settings: Iterable[Setting]) -> list[str]:
    lines = ["", "| setting | effect | reason |", "|---|---|---|"]
    for setting in settings:
        what = "refused" if setting.status is Status.REFUSED else "without effect"
        lines.append(f"| `{setting.name}` | {what} | {setting.reason} |")
    return lines


ENVIRONMENT = """
## Environment

These variables have Celery's names. The variables in the tables above work too.

| variable | default | meaning |
|---|---|---|
| `CELERY_CONFIG_MODULE` | | Configuration module of an app that names none. |
| `CELERY_APP` | | The app, if `TURBO_APP` is not set. |
| `CELERY_WORKER_REVOKES_MAX` | `50000` | Maximum revoked ids that a worker remembers. |
| `CELERY_WORKER_REVOKE_EXPIRES` | `10800` | Seconds for which it remembers them. |
| `AUTOSCALE_KEEPALIVE` | `30` | Seconds for which an autoscaled worker keeps a child that it does not need. |
| `REMAP_SIGTERM` | | `SIGQUIT`: TERM starts a cold shutdown. |
| `C_FORCE_ROOT` | | If set, a worker that runs as root may accept pickle. |
| `NO_COLOR` | | If set, no colours, unless `worker_log_color` is on. |

Celery's other variables have no effect: `CELERY_WORKER_SUCCESSFUL_MAX` and `CELERY_WORKER_SUCCESSFUL_EXPIRES`, because
turbo looks up completed tasks in the result store; and `CELERY_RDBSIG`, because turbo has no remote debugger.
"""


def _adopted() -> list[str]:
    """Who carries out what for a Celery app: names by who does, and why where nobody does."""
    by: dict[By, list[str]] = {who: [name for name in celerys() if support(name).by is who] for who in By}
    lines = [ADOPTED.rstrip("\n")]
    for who, title in ((By.TURBO, "Implemented by turbo"), (By.CELERY, "Implemented by Celery's own code")):
        lines += ["", f"**{title}:** " + ", ".join(f"`{name}`" for name in by[who]) + "."]
    lines += ["", "| setting | effect | reason |", "|---|---|---|"]
    for who in (By.REFUSED, By.NOBODY):
        lines += [f"| `{name}` | {who.value} | {support(name).reason} |" for name in by[who]]
    return lines


def page() -> str:
    """The whole page."""
    left = dict(SETTINGS)
    lines = [HEAD.rstrip("\n")]
    for title, belongs in GROUPS:
        members = [setting for setting in left.values() if belongs(setting)]
        for setting in members:
            del left[setting.name]
        working = [setting for setting in members if setting.status is Status.WORKS]
        others = [setting for setting in members if setting.status is not Status.WORKS]
        lines += ["", f"## {title}"]
        lines += _table(working) if working else []
        lines += _unsupported(others) if others else []
    lines += ENVIRONMENT.rstrip("\n").split("\n")
    lines += _adopted()
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Write or check; 1 when the page is not current."""
    if arguments == ["--check"]:
        current = PAGE.exists() and PAGE.read_text() == page()
        print("docs/settings.md is current" if current else "docs/settings.md is old: run scripts/settings_page.py")
        return 0 if current else 1
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
