"""Parses ``result_backend``: the kind of store, and the address of a Redis.

Used at start by the master (through ``backends.open_store``) and by clients (through ``backends.open_reader``). The
syntax is Celery's: ``redis://[[user]:password@]host[:port]/db?option=value``, ``rediss://`` with TLS, and
``redis+socket:///path?virtual_host=db``; ``db+`` is followed by a URL of SQLAlchemy. Opens no connection; no text made
here contains a password.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Supported schemes, and the kind of their store.
KINDS: Mapping[str, str] = {
    "redis": "redis",
    "rediss": "redis",
    "redis+socket": "redis",
    "socket": "redis",
    "rpc": "rpc",
    "disabled": "disabled",
}

#: Databases that a URL may name after ``db+``, and the kind of their store.
_DATABASES = frozenset({"postgresql", "mysql", "mariadb", "sqlite"})
#: Drivers of SQLAlchemy that are coroutines, which neither Celery nor turbo can call.
_ASYNC_DRIVERS = frozenset("asyncpg psycopg_async aiomysql asyncmy aiosqlite".split())
#: Driver -> the module that has to be installed.
_DRIVERS: Mapping[str, Mapping[str, str]] = {
    "postgresql": {"psycopg2": "psycopg2", "psycopg": "psycopg", "pg8000": "pg8000"},
    "mysql": {"mysqldb": "MySQLdb", "pymysql": "pymysql", "mysqlconnector": "mysql"},
    "mariadb": {"mysqldb": "MySQLdb", "pymysql": "pymysql", "mariadbconnector": "mariadb"},
    "sqlite": {"pysqlite": "sqlite3"},
}

#: The modules of the driver that SQLAlchemy uses if the URL names none, which depends on its version.
_BY_DEFAULT: Mapping[str, list[str]] = {
    "postgresql": ["psycopg2", "psycopg"],
    "mysql": ["MySQLdb"],
    "mariadb": ["MySQLdb"],
    "sqlite": ["sqlite3"],
}
#: A URL's start with a driver that is pure Python or has wheels.
_EXAMPLES: Mapping[str, str] = {
    "postgresql": "db+postgresql+psycopg",
    "mysql": "db+mysql+pymysql",
    "mariadb": "db+mariadb+pymysql",
    "sqlite": "db+sqlite",
}

_REFUSED: Mapping[str, str] = {
    "sentinel": "Redis Sentinel is not supported yet; name the master itself with redis://",
    "redis+sentinel": "Redis Sentinel is not supported yet; name the master itself with redis://",
    "redis+cluster": "Redis Cluster is not supported yet; use a single Redis with redis://",
    "rediscluster": "Redis Cluster is not supported yet; use a single Redis with redis://",
    "amqp": "the amqp result backend was removed from Celery 5; use rpc://",
}

#: Options of redis-py's connection pool that are ignored: turbo uses one connection that reconnects.
_IGNORED = frozenset(
    "max_connections retry_on_timeout retry_on_error health_check_interval socket_keepalive socket_read_size"
    " decode_responses encoding encoding_errors protocol timeout".split()
)

_TLS_OPTIONS = frozenset("ssl_ca_certs ssl_certfile ssl_keyfile ssl_cert_reqs ssl_check_hostname".split())
_PLAIN_OPTIONS = frozenset(
    {"db", "virtual_host", "username", "password", "client_name", "socket_timeout", "socket_connect_timeout"}
)
_CERT_REQS: Mapping[object, ssl.VerifyMode] = {
    "CERT_REQUIRED": ssl.CERT_REQUIRED,
    "CERT_OPTIONAL": ssl.CERT_OPTIONAL,
    "CERT_NONE": ssl.CERT_NONE,
    "required": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_OPTIONAL,
    "none": ssl.CERT_NONE,
    ssl.CERT_REQUIRED: ssl.CERT_REQUIRED,
    ssl.CERT_OPTIONAL: ssl.CERT_OPTIONAL,
    ssl.CERT_NONE: ssl.CERT_NONE,
}


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """The TLS options. Files are paths or None.

    They say how the server's certificate is verified, and name the client's certificate.
    """

    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    cert_reqs: ssl.VerifyMode = ssl.CERT_REQUIRED
    check_hostname: bool = True

    def context(self) -> ssl.SSLContext:
        """Return a TLS context (1.2 or newer) that verifies as ``cert_reqs`` says."""
        context = ssl.create_default_context(cafile=self.ca_certs)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = self.check_hostname and self.cert_reqs is ssl.CERT_REQUIRED
        context.verify_mode = self.cert_reqs
        if self.certfile is not None:
            context.load_cert_chain(self.certfile, self.keyfile)
        return context


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """The address and login of a Redis. ``str()`` and ``repr()`` contain no password."""

    host: str = "localhost"
    port: int = 6379
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    #: Path of a Unix socket; ``host``, ``port`` and ``tls`` are then ignored.
    path: str | None = None
    tls: TlsOptions | None = None
    client_name: str | None = None
    #: Seconds; None means the value in the settings.
    socket_timeout: float | None = None
    socket_connect_timeout: float | None = None

    def __str__(self) -> str:
        """Return the URL without credentials."""
        if self.path is not None:
            return f"redis+socket://{self.path}?virtual_host={self.db}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis{'s' if self.tls else ''}://{host}:{self.port}/{self.db}"


def scheme_of(url: str) -> str:
    """Return the scheme in lower case.

    A bare word such as ``rpc`` or ``disabled`` is a scheme too.
    """
    return url.partition("://")[0].strip().rstrip(":/").lower()


def store_kind(url: str | None) -> str:
    """Return the kind: ``"redis"``, ``"rpc"``, ``"sql"`` or ``"disabled"``.

    None and the empty string mean disabled. Raises ``ImproperlyConfigured`` for any other scheme, with the name of a
    similar supported one.
    """
    if not url:
        return "disabled"
    scheme = scheme_of(url)
    kind = KINDS.get(scheme)
    if kind is not None:
        return kind
    why = _REFUSED.get(scheme)
    if why is None and scheme.startswith("db+"):
        why = _refused_database(url)
        if why is None:
            return "sql"
    if why is None:
        why = f"turbo supports {', '.join(sorted({*KINDS.values(), 'db+postgresql, db+mysql, db+sqlite'}))}"
        import difflib  # only a misspelt name needs its 0.2 MB

        near = difflib.get_close_matches(scheme, [*KINDS, *_REFUSED], 1)
        if near:
            why += f"; did you mean {near[0]!r}?"
    raise ImproperlyConfigured(f"result_backend {scheme!r} cannot be used: {why}")


def _refused_database(url: str) -> str | None:
    """Return why a ``db+`` URL cannot be used, or None."""
    database, _, driver = scheme_of(url).removeprefix("db+").partition("+")
    if database not in _DATABASES:
        return f"turbo stores results in these databases: {', '.join(sorted(_DATABASES))}"
    if driver in _ASYNC_DRIVERS:
        return f"{driver} is a driver for coroutines; name another, such as {_EXAMPLES[database]}://"
    place = url.partition("://")[2].partition("?")[0].strip("/")
    if database == "sqlite" and place in ("", ":memory:"):
        return "a database in memory belongs to one process, so no other could read the results; name a file"
    return None


def sql_address(url: str) -> str:
    """Return the URL for SQLAlchemy in a ``db+`` URL."""
    return url.strip().partition("+")[2]


def missing_driver(url: str) -> tuple[str, str] | None:
    """Return the driver's module that a ``db+`` URL needs, if it is missing.

    Also a URL's start with a driver that is easy to install.

    None if it is installed, or unknown, as drivers of other packages are.
    """
    database, _, driver = scheme_of(url).removeprefix("db+").partition("+")
    modules = [_DRIVERS[database].get(driver, "")] if driver else _BY_DEFAULT[database]
    if any(not module or find_spec(module) is not None for module in modules):
        return None
    return modules[0], _EXAMPLES[database]


def redact_backend_url(url: str) -> str:
    """Return the URL with every credential replaced by ``**``, for log messages."""
    head, mark, rest = url.partition("://")
    if not mark:
        return url
    rest, query_mark, query = rest.partition("?")
    netloc, slash, path = rest.partition("/")
    if "@" in netloc:
        user, colon, _ = netloc.rpartition("@")[0].partition(":")
        netloc = f"{user}{':**' if colon else ''}@{netloc.rpartition('@')[2]}"
    elif "@" in path:  # an unquoted slash in the password: hide both parts
        netloc, path = "**", path.rpartition("@")[2]
    pairs = [part if not _is_secret(part) else f"{part.partition('=')[0]}=**" for part in query.split("&")]
    return f"{head}://{netloc}{slash}{path}{query_mark}{'&'.join(pairs)}"


def _is_secret(pair: str) -> bool:
    name = pair.partition("=")[0].lower()
    return "pass" in name or "secret" in name or "token" in name


def parse_redis_url(url: str, tls: Mapping[str, object] | None = None) -> RedisAddress:
    """Parse a Redis URL.

    ``tls`` holds the options of ``redis_backend_use_ssl``, or None. Raises ``ImproperlyConfigured`` for an invalid
    URL or option; the error never contains a password.
    """
    scheme = scheme_of(url)
    try:
        parts = urlsplit(url.partition("+")[2] if scheme == "redis+socket" else url)
        port = parts.port or 6379
    except ValueError as error:
        raise ImproperlyConfigured(
            f"result_backend {redact_backend_url(url)!r} is not a URL: bad host or port"
        ) from error
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = query.keys() - _IGNORED - _TLS_OPTIONS - _PLAIN_OPTIONS
    if unknown:
        raise ImproperlyConfigured(f"result_backend has unknown options: {', '.join(sorted(unknown))}")
    unix = scheme in ("socket", "redis+socket")
    if scheme != "rediss" and query.keys() & _TLS_OPTIONS:
        raise ImproperlyConfigured("result_backend has TLS options, so its scheme must be rediss://")
    options: dict[str, object] = {**(tls or {}), **{k: v for k, v in query.items() if k in _TLS_OPTIONS}}
    return RedisAddress(
        host=parts.hostname or "localhost",
        port=port,
        db=_db(query.get("db") or query.get("virtual_host") or ("" if unix else unquote(parts.path))),
        username=query.get("username") or unquote(parts.username or "") or None,
        password=query.get("password") or unquote(parts.password or "") or None,
        path=unquote(parts.path) if unix else None,
        tls=_tls(options) if not unix and (scheme == "rediss" or tls) else None,
        client_name=query.get("client_name"),
        socket_timeout=_seconds(query, "socket_timeout"),
        socket_connect_timeout=_seconds(query, "socket_connect_timeout"),
    )


def _db(text: str) -> int:
    digits = text.strip("/")
    if not digits:
        return 0
    if not digits.isdecimal():
        raise ImproperlyConfigured(f"result_backend: {digits!r} is not the number of a Redis database")
    return int(digits)


def _seconds(query: Mapping[str, str], name: str) -> float | None:
    text = query.get(name)
    if not text or text == "None":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise ImproperlyConfigured(f"result_backend: {name} must be a positive number of seconds")
    return value


def _tls(options: Mapping[str, object]) -> TlsOptions:
    mode = options.get("ssl_cert_reqs", ssl.CERT_REQUIRED)
    if mode not in _CERT_REQS:
        raise ImproperlyConfigured("ssl_cert_reqs must be CERT_REQUIRED, CERT_OPTIONAL or CERT_NONE")

    def path(name: str) -> str | None:
        value = options.get(name)
        return None if value is None else str(value)

    check = str(options.get("ssl_check_hostname", True)).lower() not in ("false", "0", "no")
    files = path("ssl_ca_certs"), path("ssl_certfile"), path("ssl_keyfile")
    return TlsOptions(*files, cert_reqs=_CERT_REQS[mode], check_hostname=check)
