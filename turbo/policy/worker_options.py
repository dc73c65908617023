"""All options of a worker, checked and frozen, read at its start.

The master and the children read them.

``cli.worker`` merges command line, environment and the app's configuration into one of these; ``worker`` passes it to
both sides. Times are in seconds, memory in KiB (Celery's unit), as in the settings. It must never change after the
start.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The merged options of one worker process tree."""

    #: Node name, ``celery@host`` by default; ``request.hostname`` and titles use it.
    hostname: str
    #: Number of children; with ``autoscale_least`` the most of them.
    concurrency: int
    #: The least children of an autoscaled worker; None: there are always ``concurrency``.
    autoscale_least: int | None = None
    #: Seconds for which an autoscaled worker keeps a child that it does not need.
    autoscale_keepalive: float = 30.0
    #: Messages reserved per child; with ``adaptive_prefetch`` the fewest.
    prefetch_multiplier: int = 4
    adaptive_prefetch: bool = True
    #: Most messages in the adaptive window; 0 means by queue kind (256 classic, 512 quorum).
    prefetch_ceiling: int = 0
    time_limit: float | None = None
    soft_time_limit: float | None = None
    max_tasks_per_child: int | None = None
    #: Functions that run at once in each child, in threads; None: one, in the child's main thread.
    threads: int | None = None
    #: Most coroutines that run at once in each child. With ``threads`` they take the places of functions.
    async_concurrency: int = 100
    #: KiB of resident memory after which a child is replaced once its task is done.
    max_memory_per_child: int | None = None
    #: KiB of resident memory at which a child is killed in the middle of its task.
    max_memory_per_child_hard: int | None = None
    #: How often one message may be handed to children that die with it.
    task_max_deliveries: int = 5
    #: Time after its fork within which a child must report ready.
    proc_alive_timeout: float = 60.0
    #: Time that one call of the app's code in the master may take; then the master goes on without it.
    hook_timeout: float = 10.0
    #: Warm shutdown: how long running tasks may go on; None waits for ever, as Celery does.
    shutdown_timeout: float | None = None
    soft_shutdown_timeout: float = 0.0
    #: How many messages the worker holds besides its window, for their ETA or a rate limit.
    eta_task_limit: int = 20_000
    disable_rate_limits: bool = False
    #: How long the broker leaves a message unsettled if the queue does not say it, in seconds; None: no leases.
    delivery_lease: float | None = 1500.0
    #: Messages due in more than this many seconds are parked in the broker; None: all are held.
    eta_park_after: float | None = 300.0
    broker_heartbeat: float = 120.0
    broker_connection_timeout: float = 4.0
    broker_connection_retry_on_startup: bool = True
    #: At start, keep trying if the broker refuses the login, the virtual host or every queue.
    wait_when_refused: bool = False
    #: Reconnect when the broker is lost; otherwise the worker ends.
    broker_connection_retry: bool = True
    #: Failed attempts in a row after which the worker ends; None: it tries for ever.
    broker_connection_max_retries: int | None = None
    #: Type of the queues in which producers delay messages for quorum queues.
    delay_queue_type: str = "quorum"
    track_started: bool = False
    #: Seconds between worker-heartbeat events; None: no events of the worker.
    heartbeat_interval: float | None = 2.0
    #: Ask the other workers for revoked ids and the clock at start.
    mingle: bool = True
    #: File of revoked ids and the clock, without its suffix; None: they are forgotten with the worker.
    state_db: str | None = None
    #: File that is touched while the worker consumes; None: none is.
    heartbeat_file: str | None = None
    #: Revoked ids that are remembered, and for how many seconds.
    revokes_max: int = 50_000
    revoke_expires: float = 10_800.0
    #: Content types (MIME) that a body may have.
    accept_content: frozenset[str] = field(default_factory=lambda: frozenset({"application/json"}))
    #: Largest body after decompression, in bytes.
    max_body_size: int = 268_435_456
    result_expires: float | None = 86400.0
    loglevel: int = 30
    #: File for the log; None is standard error.
    logfile: str | None = None
    purge: bool = False
    #: Queues to consume from by name (-Q); empty means the configured ones.
    queues: tuple[str, ...] = ()
    #: Queues not to consume from by name (-X).
    exclude_queues: tuple[str, ...] = ()

    @property
    def places(self) -> int:
        """How many functions run at once in all children together."""
        return self.concurrency * (self.threads or 1)
