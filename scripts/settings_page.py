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

Names and defaults are Celery's, so an existing configuration means the same here. Made by
`python scripts/settings_page.py` from `turbo/app/conf/settings.py`; do not edit.

What wins: the command line, then the setting's environment variable, then what was set on the app, then the
configuration object, then the default. Old upper-case names (`CELERYD_CONCURRENCY`) are read too. Any setting can be
given on the command line: `turbo worker -- worker.prefetch_multiplier=1 task.acks_late=true`. An option is also read
from the environment: `--concurrency` from `TURBO_WORKER_CONCURRENCY`, else from `CELERY_WORKER_CONCURRENCY`. A worker
takes its settings over once, at its start; `turbo report` shows them, without passwords.

A setting that turbo does not honour is either **without effect**, and the worker says so once at its start, or
**refused**: ignoring it would change what the application does, so the worker does not start.
"""

ADOPTED = """
## Celery's apps

For a `celery.Celery` that turbo runs as it is, each of Celery's settings is carried out by one of these. Turbo:
connections, queues, limits, processes. Celery's own code, which runs in turbo's children and in the programs that send
tasks or schedule them. Nobody: the worker names the setting in one warning at its start. Refused: the worker does not
start. Between turbo and Celery nothing changes for the app; what the command line sets, the app's `conf` shows.
The tables above are about turbo's own apps.
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
    lines = ["", "| setting | | why |", "|---|---|---|"]
    for setting in settings:
        what = "refused" if setting.status is Status.REFUSED else "without effect"
        lines.append(f"| `{setting.name}` | {what} | {setting.reason} |")
    return lines


ENVIRONMENT = """
## Environment

Beside the variables above, under Celery's names:

| variable | default | meaning |
|---|---|---|
| `CELERY_CONFIG_MODULE` | | Module with the configuration, for an app that names none. |
| `CELERY_APP` | | Where the app is, when `TURBO_APP` is unset. |
| `CELERY_WORKER_REVOKES_MAX` | `50000` | Most revoked ids that a worker remembers. |
| `CELERY_WORKER_REVOKE_EXPIRES` | `10800` | Seconds for which it remembers them. |
| `REMAP_SIGTERM` | | `SIGQUIT`: TERM asks for a cold shutdown. |
| `C_FORCE_ROOT` | | Set: a worker that runs as root may accept pickle. |
| `NO_COLOR` | | Set: no colours, unless `worker_log_color` asks for them. |

Celery's others have no effect. `CELERY_WORKER_SUCCESSFUL_MAX` and `CELERY_WORKER_SUCCESSFUL_EXPIRES`: what is done is
looked up in the result store. `AUTOSCALE_KEEPALIVE`: children are not scaled. `CELERY_RDBSIG`: there is no remote
debugger.
"""


def _adopted() -> list[str]:
    """Who carries out what for a Celery app: names by who does, and why where nobody does."""
    by: dict[By, list[str]] = {who: [name for name in celerys() if support(name).by is who] for who in By}
    lines = [ADOPTED.rstrip("\n")]
    for who, title in ((By.TURBO, "Carried out by turbo"), (By.CELERY, "Carried out by Celery's own code")):
        lines += ["", f"**{title}:** " + ", ".join(f"`{name}`" for name in by[who]) + "."]
    lines += ["", "| setting | | why |", "|---|---|---|"]
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
