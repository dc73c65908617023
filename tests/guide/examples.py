"""Celery's Tasks guide as a package of modules, in which only import lines are translated.

The code is in ``examples.txt``; this writes it where a worker and its clients can import it, with small stand-ins for
the libraries and models that the examples name.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

_SOURCE = Path(__file__).with_name("examples.txt")
_SECTION = re.compile(r"^([+=-]) (\d+)$")
_FROM = re.compile(r"^from celery\b")
_IMPORT = re.compile(r"^import celery$")

_MODELS = """
import types

class Objects:
    def __init__(self, what):
        self.what = what
    def create(self, *args, **kwargs):
        print(f'created {self.what} {args} {kwargs}')
    def get(self, id):
        print(f'got {self.what} {id}')
        return types.SimpleNamespace(body='MyCorp', save=lambda: print(f'saved {self.what} {id}'))

class User:
    objects = Objects('user')

class PageInfo:
    objects = Objects('page')

class Model:
    objects = Objects('article')

class models:
    Model = Model
    CharField = TextField = str

class myhttplib:
    get = staticmethod(lambda url: 'page of ' + url)

class myparser:
    parse_document = staticmethod(lambda page: 'parsed ' + page)
"""
_TWITTER = """
from twitter.exceptions import FailWhaleError

def refresh_timeline(user):
    raise FailWhaleError(user)
"""
_OTHERS = {
    "guide/__init__.py": "",
    "guide/models.py": _MODELS,
    "guide/moduleA/__init__.py": "",
    "guide/moduleA/tasks.py": "from guide.celery import app\n@app.task\ndef taskA():\n    return 'A'\n",
    "your/__init__.py": "",
    "your/module/__init__.py": "",
    "your/module/path.py": "from guide.e47 import DatabaseTask\n",
    "twitter/__init__.py": _TWITTER,
    "twitter/exceptions.py": "class FailWhaleError(Exception):\n    pass\n",
    "requests/__init__.py": "",
    "requests/exceptions.py": "class RequestException(Exception):\n    pass\n",
}
_PLACES = {11: "tasks.py", 14: "guide/celery.py"}
#: Names of the packages and modules that are written.
TOP = ("guide", "tasks", "twitter", "requests", "your")
#: What is imported by no more than the worker of its own: the first ends a worker's log, the second is its app.
APART = (19, 49)
_AFTER_APP = """
app.conf.update(broker_url={broker!r}, result_backend={backend!r}, include={include!r})
app.conf.task_queues = {{'celery': {{'exchange': 'celery', 'routing_key': 'celery', 'queue_arguments':
    {{'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dead'}}}}}}
"""


def blocks() -> dict[int, dict[str, list[str]]]:
    """Return the lines of each block: those before (+), of (=) and after (-) it."""
    found: dict[int, dict[str, list[str]]] = defaultdict(lambda: {"+": [], "=": [], "-": []})
    lines: list[str] = []  # the file's own remark goes nowhere
    for line in _SOURCE.read_text().splitlines():
        section = _SECTION.match(line)
        if section:
            lines = found[int(section[2])][section[1]]
        else:
            lines.append(line)
    return found


def translated(line: str) -> str:
    """Translate an import of Celery to one of turbo; return any other line unchanged."""
    return _IMPORT.sub("import turbo as celery", _FROM.sub("from turbo", line))


def write(directory: Path, broker: str, backend: str) -> list[str]:
    """Write all modules; return those that define tasks for the worker."""
    for place, text in _OTHERS.items():
        path = directory / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = blocks()
    include = ["tasks", "guide.moduleA.tasks", *(f"guide.e{n:02}" for n in found if n not in (*_PLACES, *APART))]
    for number, parts in found.items():
        lines = [translated(line) for line in (*parts["+"], *parts["="], *parts["-"])]
        if number not in _PLACES:
            lines.insert(0, "from guide.celery import app")
        if number == 14:
            lines.append(_AFTER_APP.format(broker=broker, backend=backend, include=include))
        (directory / _PLACES.get(number, f"guide/e{number:02}.py")).write_text("\n".join(lines) + "\n")
    return include
