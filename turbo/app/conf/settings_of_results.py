"""The table of the settings of result stores, with Celery's names and defaults.

Part of the table in ``app.conf.settings``; a separate module only because of its length. Runs wherever an app exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from turbo.app.conf.setting import Setting, accepted, works

if TYPE_CHECKING:
    from collections.abc import Iterator

_CACHE: Final = "the memcached result backend is not supported yet"
_ALWAYS: Final = "a worker always retries its result store"

#: Stores that turbo does not support, and the names of their settings. A ``result_backend`` of such a store is refused
#: when it is used; these settings alone have no effect.
_FOREIGN: Final = {
    "cassandra": "entry_ttl keyspace port read_consistency servers bundle_path table write_consistency "
    "auth_provider auth_kwargs options",
    "s3": "access_key_id secret_access_key bucket base_path endpoint_url region",
    "azureblockblob": "container_name retry_initial_backoff_sec retry_increment_base retry_max_attempts "
    "base_path connection_timeout read_timeout",
    "gcs": "bucket project base_path ttl",
    "couchbase": "backend_settings",
    "arangodb": "backend_settings",
    "mongodb": "backend_settings",
    "cosmosdbsql": "database_name collection_name consistency_level max_retry_attempts max_retry_wait_time",
    "elasticsearch": "retry_on_timeout max_retries timeout save_meta_as_text",
}


def _foreign() -> Iterator[Setting]:
    for store, names in _FOREIGN.items():
        for name in names.split():
            yield accepted(
                f"{store}_{name}", "any", None, f"Results in {store}.", f"{store} result backends are not supported"
            )


# Keep the rows as compact as a table.
# fmt: off
RESULT_SETTINGS: Final = (
    works("result_backend", "any", None, "URL of the result store; None: results are not stored.",
          env="CELERY_RESULT_BACKEND", cli="--result-backend"),
    works("result_accept_content", "list", None, "Accepted serializers of results; None: ``accept_content``.",
          old="RESULT_ACCEPT_CONTENT"),
    works("result_expires", "float", 86400.0, "Seconds that results are kept; None or 0: no limit.",
          old="CELERY_TASK_RESULT_EXPIRES"),
    accepted("result_failure_expires", "float", None, "Seconds that failures are kept.",
             "failures are kept as long as other results"),
    works("result_extended", "bool", False, "Also store name, arguments, worker, retries and queue."),
    works("result_persistent", "bool", None, "rpc: persistent result messages; None: no."),
    works("result_serializer", "string", "json", "Serializer of results."),
    accepted("result_compression", "string", None, "Compression of results.",
             "results are stored uncompressed; compressed ones can be read"),
    accepted("result_cache_max", "int", -1, "Results a client remembers.",
        "each AsyncResult remembers its own result",
             old="CELERY_MAX_CACHED_RESULTS"),
    accepted("result_exchange", "string", "celeryresults", "Exchange of results.",
             "rpc results go through the default exchange"),
    accepted("result_exchange_type", "string", "direct", "Type of that exchange.",
             "rpc results go through the default exchange"),
    works("result_backend_transport_options", "dict", {},
        "For Redis: ``global_keyprefix`` and ``result_chord_ordered``; others have no effect."),
    works("result_chord_expires", "float", None, "Seconds that a chord's counters are kept; None: as long as results."),
    works("result_chord_retry_interval", "float", 1.0, "Seconds between checks of ``celery.chord_unlock``."),
    works("result_chord_join_timeout", "float", 3.0, "Seconds to collect the results of a chord's header."),
    accepted("result_backend_always_retry", "bool", False, "Retry a failing store.", _ALWAYS),
    accepted("result_backend_max_retries", "float", float("inf"), "Attempts to store.", _ALWAYS),
    accepted("result_backend_base_sleep_between_retries_ms", "int", 10, "Least pause between them.", _ALWAYS),
    accepted("result_backend_max_sleep_between_retries_ms", "int", 10000, "Longest pause.", _ALWAYS),
    works("redis_backend_use_ssl", "any", None, "TLS options of the connection to Redis."),
    works("redis_socket_timeout", "float", 120.0, "Seconds to wait for Redis."),
    works("redis_socket_connect_timeout", "float", None, "Seconds to connect to Redis."),
    accepted("redis_socket_keepalive", "bool", False, "TCP keep-alive towards Redis.",
             "a connection that does not answer is replaced"),
    accepted("redis_retry_on_timeout", "bool", False, "Retry when Redis does not answer in time.", _ALWAYS),
    accepted("redis_max_connections", "int", None, "Maximum connections to Redis.", "each thread keeps one connection"),
    works("redis_host", "string", None, "Redis host, if the URL names none."),
    works("redis_port", "int", None, "Redis port, if the URL names none."),
    works("redis_db", "int", None, "Redis database, if ``result_backend`` is just ``redis``."),
    works("redis_username", "string", None, "Redis user, if the URL names none."),
    works("redis_password", "string", None, "Redis password, if the URL names none."),
    accepted("cache_backend", "string", None, "memcached servers.", _CACHE),
    accepted("cache_backend_options", "dict", {}, "Options of the memcached client.", _CACHE),
    accepted("database_url", "string", None, "SQL database.", "``result_backend`` names the database",
             old="CELERY_RESULT_DBURI"),
    works("database_engine_options", "dict", {"pool_pre_ping": True, "pool_recycle": 3600},
          "Arguments of SQLAlchemy's ``create_engine``.", old="CELERY_RESULT_ENGINE_OPTIONS"),
    accepted("database_engine_callback", "any", None, "Called with the engine.", "no code of the app runs there"),
    works("database_short_lived_sessions", "bool", False, "Connect to the database for each operation.",
          old="CELERY_RESULT_DB_SHORT_LIVED_SESSIONS"),
    works("database_table_schemas", "dict", None, "Schemas of the tables, by ``task`` and ``group``."),
    works("database_table_names", "dict", None, "Names of the tables, by ``task`` and ``group``.",
          old="CELERY_RESULT_DB_TABLENAMES"),
    works("database_create_tables_at_setup", "bool", True,
          "Create the tables when the worker starts; off: at the first use."),
    *_foreign(),
)
# fmt: on
