"""The table of all settings: name, type, default, meaning and support.

``app.conf.conf`` takes defaults and old names from this table, the worker's start its warnings and refusals, and
``docs/settings.md`` its rows. Runs wherever an app exists. It must never read a value: ``app.conf.conf`` does.

Names and defaults are Celery's, so that an existing configuration means the same here. Settings that only turbo has are
in the last table, those of result stores in ``app.conf.settings_of_results``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from turbo.app.conf.setting import Setting, accepted, own, refused, works
from turbo.app.conf.settings_of_results import RESULT_SETTINGS

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOG: Final = "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"
_TASK_LOG: Final = "[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s"
_MONITORS: Final = "only monitors read it"
_BEAT: Final = "turbo's beat answers no remote control"
_PARTS: Final = "turbo's worker has no replaceable part of this kind"
_POLICY: Final[Mapping[str, float]] = {
    "max_retries": 3,
    "interval_start": 0,
    "interval_max": 1,
    "interval_step": 0.2,
}

# Keep the rows as compact as a table.
# fmt: off
_GENERAL: Final = (
    works("accept_content", "list", ("json",), "Serializers, by name or content type, that may be decoded.",
          old="CELERY_ACCEPT_CONTENT"),
    works("enable_utc", "bool", True, "Write times in UTC; off means in ``timezone``."),
    works("imports", "tuple", (), "Modules imported when the worker starts.", old="CELERY_IMPORTS"),
    works("include", "tuple", (), "More modules imported when the worker starts.", old="CELERY_INCLUDE",
          cli="--include"),
    works("timezone", "string", None, "The app's time zone by its IANA name; None means UTC.",
          old="CELERY_TIMEZONE"),
    refused("security_key", "string", None, "Private key for signed messages.", "messages are not signed"),
    refused("security_certificate", "string", None, "Certificate for signed messages.",
            "messages are not signed"),
    refused("security_cert_store", "string", None, "Trusted certificates.", "messages are not signed"),
    accepted("security_key_password", "bytes", None, "Password of the private key.",
        "messages are not signed"),
    accepted("security_digest", "string", "sha256", "Digest of signed messages.", "messages are not signed"),
)

_BROKER: Final = (
    works("broker_url", "any", None, "The broker's URL, or several (a list, or joined by ``;``).",
          env="CELERY_BROKER_URL", cli="--broker"),
    works("broker_read_url", "any", None, "URL to consume from; None: ``broker_url``.",
          env="CELERY_BROKER_READ_URL"),
    works("broker_write_url", "any", None, "URL to publish to; None: ``broker_url``.",
          env="CELERY_BROKER_WRITE_URL"),
    works("broker_transport_options", "dict", {}, "Only the key ``confirm_publish`` has an effect (default True; a "
          "worker always waits for confirms)."),
    works("broker_connection_timeout", "float", 4.0, "Seconds after which an attempt to connect fails."),
    works("broker_connection_retry", "bool", True,
          "Reconnect when the broker is lost; off: finish the running tasks and exit."),
    works("broker_connection_retry_on_startup", "bool", None,
          "Keep trying at start while the broker is down (None: as ``broker_connection_retry``), and while it refuses "
          "the login, the virtual host or every queue (None: exit with code 69)."),
    works("broker_connection_max_retries", "int", 100,
          "Failed attempts after which the worker finishes its tasks and exits; not set, 0 or None: no limit."),
    accepted("broker_channel_error_retry", "bool", False, "Retry after channel errors.",
             "the worker always reopens its channel"),
    accepted("broker_failover_strategy", "string", None, "Order in which several brokers are tried.",
             "several brokers are always tried in turn"),
    works("broker_heartbeat", "float", 120,
        "Heartbeat interval in seconds that the worker requests; 0: no heartbeats."),
    accepted("broker_heartbeat_checkrate", "float", 3.0, "Checks per heartbeat.", "pika decides when to check"),
    refused("broker_login_method", "string", None, "SASL mechanism.", "login always uses PLAIN",
            harmless=("PLAIN", "AMQPLAIN")),
    works("broker_native_delayed_delivery_queue_type", "string", "quorum",
          "Type of the queues in which the broker delays messages for quorum queues: quorum or classic."),
    works("broker_pool_limit", "int", 10,
          "Maximum idle connections kept for publishing; 0 or None: each is closed after its message."),
    accepted("broker_pool_acquire_timeout", "float", None, "Seconds to wait for a pooled connection.",
             "a thread that finds no idle connection opens one"),
    works("broker_use_ssl", "any", False,
        "True, or the TLS options: ca_certs, certfile, keyfile, cert_reqs."),
    refused("broker_transport", "string", None, "Transport, if the URL names none.", "only AMQP is supported",
            harmless=("amqp", "pyamqp", "amqps")),
    works("broker_host", "string", None, "The broker's host or URL, if ``broker_url`` is not set."),
    works("broker_port", "int", None, "The broker's port, if the URL names none."),
    works("broker_user", "string", None, "The broker's user, if the URL names none."),
    works("broker_password", "string", None, "The broker's password, if the URL names none."),
    works("broker_vhost", "string", None, "The broker's virtual host, if the URL names none."),
)

_TASK: Final = (
    works("task_acks_late", "bool", False, "Acknowledge a message after its task instead of at its start."),
    works("task_acks_on_failure_or_timeout", "bool", True,
          "Default of ``task_acks_on_failure`` and ``task_acks_on_timeout``."),
    works("task_acks_on_failure", "bool", None, "Late-acked tasks: acknowledge when the task raises; off: reject."),
    works("task_acks_on_timeout", "bool", None, "Late-acked tasks: acknowledge after a hard time limit; off: requeue."),
    works("task_reject_on_worker_lost", "bool", None, "Late-acked tasks: requeue when the child dies."),
    works("task_retry_on_worker_lost", "bool", False,
        "Retry when the child dies, after the task's default_retry_delay, up to its max_retries."),
    works("task_always_eager", "bool", False, "Run tasks in the caller instead of sending them."),
    works("task_eager_propagates", "bool", False, "Eager calls raise the task's exception.",
          old="CELERY_EAGER_PROPAGATES_EXCEPTIONS"),
    works("task_store_eager_result", "bool", False, "Store the results of eager tasks."),
    works("task_annotations", "any", None, "Attributes to set on tasks, by task name; ``*`` means all tasks."),
    works("task_compression", "string", None, "Compression of sent messages.",
          old="CELERY_MESSAGE_COMPRESSION"),
    works("task_create_missing_queues", "bool", True, "Create queues that are named but not configured."),
    works("task_create_missing_queue_type", "string", "classic",
        "Type of queues created so: classic or quorum."),
    works("task_create_missing_queue_exchange_type", "string", None, "Type of the exchanges of queues created so."),
    works("task_inherit_parent_priority", "bool", False, "Tasks that a task sends inherit its priority."),
    works("task_default_delivery_mode", "any", 2, "2 or ``persistent``; 1 or ``transient``."),
    works("task_default_queue", "string", "celery",
        "Queue of tasks without a route, and of a worker without -Q."),
    works("task_default_queue_type", "string", "classic", "Type of the default queue: classic or quorum."),
    works("task_default_exchange", "string", None,
        "Exchange of queues that name none; None: the queue's name."),
    works("task_default_exchange_type", "string", "direct", "Type of that exchange."),
    works("task_default_routing_key", "string", None,
        "Routing key of queues that name none; None: the queue's name."),
    works("task_default_rate_limit", "any", None,
          "Starts of each task in each worker at most: ``100/m``, ``10/s``, ``5/h`` or a number per second."),
    works("task_default_priority", "int", None, "Priority of messages that set none."),
    works("task_ignore_result", "bool", False, "Store no results."),
    works("task_store_errors_even_if_ignored", "bool", False, "Store failures even if results are ignored."),
    refused("task_protocol", "int", 2, "Protocol of sent messages.", "only protocol 2 is sent",
            old="CELERY_TASK_PROTOCOL",
            harmless=(2,)),
    works("task_publish_retry", "bool", True, "Retry when publishing fails.",
        old="CELERY_TASK_PUBLISH_RETRY"),
    works("task_publish_retry_policy", "dict", _POLICY, "Number of retries, and seconds between them.",
          old="CELERY_TASK_PUBLISH_RETRY_POLICY"),
    works("task_queues", "any", None, "The queues: a list of Queue, or a dict of their options by name."),
    works("task_queue_max_priority", "int", None, "``x-max-priority`` of queues that set none."),
    accepted("task_remote_tracebacks", "bool", False, "Give readers the worker's traceback.",
             "the traceback is always stored as text"),
    works("task_repr_maxlevels", "int", 3, "Maximum nesting depth of arguments in logs and events."),
    works("task_routes", "any", None,
          "Routes: mappings from task names, globs or patterns to destinations, or functions."),
    works("task_send_sent_event", "bool", False, "Send a task-sent event for each call that is sent.",
          old="CELERY_SEND_TASK_SENT_EVENT"),
    works("task_serializer", "string", "json", "Serializer of sent messages.",
        old="CELERY_TASK_SERIALIZER"),
    works("task_soft_time_limit", "float", None, "Seconds after which SoftTimeLimitExceeded is raised.",
          old="CELERYD_TASK_SOFT_TIME_LIMIT", cli="--soft-time-limit"),
    works("task_time_limit", "float", None, "Seconds after which the child is killed.",
          old="CELERYD_TASK_TIME_LIMIT", cli="--time-limit"),
    works("task_track_started", "bool", False, "Store the state STARTED."),
    works("task_allow_error_cb_on_chord_header", "bool", False, "A chord's link_error also applies to its header."),
)

_WORKER: Final = (
    works("worker_concurrency", "any", None,
          "Number of children, or of threads in the pool ``threads``; None or auto: one per usable CPU.",
          cli="--concurrency"),
    works("worker_prefetch_multiplier", "int", 4,
          "Prefetched messages per child. If it is set, the window does not adapt; 0: no limit.",
          cli="--prefetch-multiplier"),
    works("worker_disable_prefetch", "bool", False, "Prefetch one message per child.",
          cli="--disable-prefetch"),
    works("worker_eta_task_limit", "int", None,
        "Maximum messages that the worker holds for their ETA or a rate limit; None: 20,000. Others wait in the "
        "broker's queue."),
    works("worker_max_tasks_per_child", "int", None, "Tasks after which a child is replaced.",
          cli="--max-tasks-per-child"),
    works("worker_max_memory_per_child", "any", None,
        "KiB, or a text such as ``512MB``; a child that uses more is replaced after its task.",
          cli="--max-memory-per-child"),
    works("worker_soft_shutdown_timeout", "float", 0.0,
          "Seconds that running tasks get after SIGQUIT before a cold shutdown."),
    accepted("worker_enable_soft_shutdown_on_idle", "bool", False, "Wait even if nothing runs.",
             "a worker that runs nothing ends at once"),
    accepted("worker_cancel_long_running_tasks_on_connection_loss", "bool", False,
             "End late-acked tasks when the broker is lost.", "the tasks run on, and their messages come back"),
    accepted("worker_enable_prefetch_count_reduction", "bool", True, "Fewer prefetched after a reconnect.",
             "the prefetch window adapts to the tasks", harmless=(False, None)),
    accepted("worker_detect_quorum_queues", "bool", True, "Adapt QoS to quorum queues.",
        "the worker's QoS works for both kinds of queue"),
    works("worker_pool", "string", "prefork",
          "prefork; solo for one child, whatever the concurrency; threads for ``worker_concurrency`` threads in "
          "``worker_processes`` children; any other pool is refused.", cli="--pool"),
    accepted("worker_pool_putlocks", "bool", True, "Lock around the pool's pipe.", "the children have no pipe to lock",
             harmless=(False, None)),
    works("worker_pool_restarts", "bool", False,
          "Allow ``pool_restart``, which imports the app anew and replaces the children."),
    accepted("worker_pool_start_method", "string", "fork", "How children start.",
             "a spawner process forks the children"),
    works("worker_proc_alive_timeout", "float", 4.0,
        "Seconds after which a child that has not started is killed and replaced; not set: 60."),
    accepted("worker_lost_wait", "float", 10.0, "Seconds to wait for a dead child's result.",
             "a dead child's ring is read to its end at once", old="CELERYD_WORKER_LOST_WAIT"),
    works("worker_send_task_events", "bool", False, "Send task events, which monitors such as Flower show.",
        old="CELERY_SEND_EVENTS", cli="--task-events"),
    works("worker_enable_remote_control", "bool", True, "Answer remote control.",
          old="CELERY_ENABLE_REMOTE_CONTROL"),
    works("worker_direct", "bool", False,
          "Also consume from a queue of this worker alone: ``NODENAME.dq2`` on the exchange ``C.dq2``.",
          old="CELERY_WORKER_DIRECT"),
    works("worker_state_db", "string", None,
          "File in which revoked ids and the logical clock outlive the worker; ``.turbo`` is added to its name.",
          cli="--statedb"),
    works("worker_disable_rate_limits", "bool", False, "Ignore the rate limits of all tasks.",
          old="CELERY_DISABLE_RATE_LIMITS"),
    works("worker_deduplicate_successful_tasks", "bool", False,
        "Do not run a redelivered task whose success is stored; needs late acknowledgement and results in Redis."),
    works("worker_hijack_root_logger", "bool", True, "Replace the root logger's handlers."),
    works("worker_log_color", "bool", None, "Colour in logs; None: on terminals."),
    works("worker_log_format", "string", _LOG, "Format of the worker's log lines."),
    works("worker_log_datefmt", "string", None, "Format of their times."),
    works("worker_task_log_format", "string", _TASK_LOG, "Format of log lines written by tasks."),
    works("worker_task_log_datefmt", "string", None, "Format of their times."),
    works("worker_redirect_stdouts", "bool", True, "Log what tasks print.",
          old="CELERY_REDIRECT_STDOUTS"),
    works("worker_redirect_stdouts_level", "string", "WARNING", "Level of those lines.",
          old="CELERY_REDIRECT_STDOUTS_LEVEL"),
    accepted("worker_agent", "string", None, "Agent class.", _PARTS),
    accepted("worker_autoscaler", "string", "celery.worker.autoscale:Autoscaler", "Autoscaler class.",
        "--autoscale uses turbo's own autoscaler"),
    refused("worker_consumer", "string", "celery.worker.consumer:Consumer", "Consumer class.", _PARTS),
    accepted("worker_timer", "string", None, "Timer class.", _PARTS),
    accepted("worker_timer_precision", "float", 1.0, "Seconds a timer may sleep.", _PARTS),
)

_EVENT_CONTROL_BEAT: Final = (
    works("event_exchange", "string", "celeryev", "Topic exchange of events."),
    works("event_serializer", "string", "json", "Serializer of events."),
    *(accepted(f"event_{name}", kind, default, "Monitors' queues.", _MONITORS) for name, kind, default in (
        ("queue_expires", "float", 60.0), ("queue_ttl", "float", 5.0), ("queue_prefix", "string", "celeryev"),
        ("queue_exclusive", "bool", True), ("queue_durable", "bool", False))),
    works("control_exchange", "string", "celery", "First part of the name of remote control's exchange."),
    works("control_queue_ttl", "float", 300.0, "Seconds that a request may wait for the worker."),
    works("control_queue_expires", "float", 10.0, "Seconds after which an unused mailbox is deleted."),
    works("control_queue_exclusive", "bool", True,
          "The mailbox belongs to one connection. False has no effect and is named at start: RabbitMQ may refuse it."),
    works("control_queue_durable", "bool", False, "The mailbox survives a restart of the broker."),
    works("beat_schedule", "dict", {},
          "Periodic tasks: a dict by name of ``task``, ``schedule``, ``args``, ``kwargs``, ``options``, ``relative``.",
          old="CELERYBEAT_SCHEDULE"),
    works("beat_scheduler", "string", "celery.beat:PersistentScheduler",
          "Scheduler class of beat; Celery's own names mean turbo's of the same name.", old="CELERYBEAT_SCHEDULER",
          cli="--scheduler"),
    works("beat_schedule_filename", "string", "celerybeat-schedule",
          "File of the last runs of periodic tasks; turbo's own has the suffix ``.turbo``.",
          old="CELERYBEAT_SCHEDULE_FILENAME", cli="--schedule"),
    works("beat_max_loop_interval", "float", 0,
          "Longest sleep of beat between two looks at the schedule, in seconds; 0: 300.",
          old="CELERYBEAT_MAX_LOOP_INTERVAL", cli="--max-interval"),
    works("beat_cron_starting_deadline", "int", None,
          "A run of a crontab that is overdue by more seconds than this is left out; None: it is sent late.",
          old="CELERYBEAT_CRON_STARTING_DEADLINE"),
    accepted("beat_sync_every", "int", 0, "Runs after which the file is written.",
             "the last runs are stored before each run is sent", old="CELERYBEAT_SYNC_EVERY"),
    *(accepted(f"beat_{name}", kind, default, "Remote control of beat.", _BEAT, old=f"CELERYBEAT_{name.upper()}")
      for name, kind, default in (
        ("enable_remote_control", "bool", False), ("remote_control_max_tick_age", "float", None))),
)

_TURBO: Final = (
    own("app", "string", None, "The app, as for ``-A``.", env="TURBO_APP", cli="--app"),
    own("task_max_deliveries", "int", 5, "Maximum deaths of children or workers per message; then the task fails with "
          "WorkerLostError and the message is dead-lettered. The death of a whole worker at the very first start "
          "is not counted."),
    own("beat_leader_queue", "string", None,
        "Durable queue by which the broker elects one of several beats of the app; None: named after the app and its "
        "default queue; empty: each beat sends."),
    own("worker_prefetch", "any", "adaptive",
        "``adaptive``: more while tasks are short; ``fixed``: ``worker_prefetch_multiplier`` per child; or the number "
        "for all children together.",
        cli="--prefetch"),
    own("worker_prefetch_adaptive", "bool", False,
        "Whether the window also adapts where ``worker_prefetch_multiplier`` is set, from that size on."),
    own("worker_shutdown_timeout", "float", None,
        "Maximum seconds of a warm shutdown, which then becomes a cold one; None: no limit.",
          cli="--shutdown-timeout"),
    own("worker_delivery_lease", "float", 1500.0,
        "Seconds that the broker lets a message stay unacknowledged, for queues without ``x-consumer-timeout``. It "
        "must be below RabbitMQ's ``consumer_timeout``. The worker moves messages that it has held for half of this "
        "time to a lease queue of its own. 0: never."),
    own("worker_eta_park_after", "float", 300.0,
        "Messages that are due in more than this many seconds wait in the broker's delay queues; None: in the worker."),
    own("worker_hook_timeout", "float", 10.0,
        "Seconds after which the master no longer waits for a signal's receiver or a request's method."),
    own("worker_processes", "int", 1, "Children over which the threads of the pool ``threads`` are divided.",
          cli="--processes"),
    own("worker_async_concurrency", "int", 100, "Maximum coroutine tasks that a child runs at once.",
          cli="--async-concurrency"),
    own("worker_heartbeat_file", "string", None,
        "File that the worker touches every 2 seconds while it consumes, for liveness probes.", cli="--heartbeat-file"),
    own("worker_log_json", "bool", False, "Write each log line as a JSON object.", cli="--log-json"),
    own("worker_max_memory_per_child_hard", "any", None,
        "KiB, or a text such as ``1GB``; a child that uses more is killed during its task; 0: never. The default in a "
        "control group with a memory limit is that limit minus the larger of 128 MiB and a fifth of it.",
        cli="--max-memory-per-child-hard"),
    own("worker_max_message_bytes", "int", 256 * 2**20,
        "Maximum size of a message body in bytes, also after decompression."),
)

# fmt: on


def _declare() -> dict[str, Setting]:
    """Merge the tables. Raises RuntimeError for a name that is declared twice."""
    table: dict[str, Setting] = {}
    for setting in (*_GENERAL, *_BROKER, *_TASK, *_WORKER, *RESULT_SETTINGS, *_EVENT_CONTROL_BEAT, *_TURBO):
        if setting.name in table:
            raise RuntimeError(f"the setting {setting.name} is declared twice")
        table[setting.name] = setting
    return table


#: Every setting, by its name.
SETTINGS: Final[Mapping[str, Setting]] = _declare()

#: Maps old upper-case names to current names.
OLD_NAMES: Final[Mapping[str, str]] = {old: s.name for s in SETTINGS.values() for old in s.old_names}
