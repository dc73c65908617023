"""Sends a call: routes, encodes and publishes it, and returns its handle.

Called by ``Task.apply_async`` and ``Turbo.send_task``; ``app.publish.publishing`` chooses the publisher. Runs in
clients and children. It never runs a task, except with ``task_always_eager``, and never swallows a failure to publish.
"""

from __future__ import annotations

import logging
import warnings
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from turbo import current
from turbo.amqp.delayed_delivery import uses_cascade
from turbo.app.publish import signals as publish_signals
from turbo.app.publish.events import Events
from turbo.app.publish.options import LONGEST_LIFE, milliseconds, put_properties
from turbo.app.publish.publishing import Publishing
from turbo.app.publish.routes import Destination, TaskRouter
from turbo.app.tasks import eager
from turbo.app.tasks.call_options import as_time, check_arguments, check_seconds, message_fields, seconds_until
from turbo.exceptions import AlwaysEagerIgnored, TurboWarning
from turbo.policy.publish_retry import ONCE, PublishRetry
from turbo.protocol import compression, content, message, properties
from turbo.protocol.ids import text_id

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping

    from turbo.app.interfaces import AppLike, TaskLike
    from turbo.result.async_result import AsyncResult

logger = logging.getLogger("turbo.app.publish.sending")

_DELIVERY_MODES = {"persistent": 2, "transient": 1}


class Defaults:
    """The settings that apply to every message.

    Made again after each change of the settings.
    """

    __slots__ = (
        "always_eager",
        "compression",
        "delivery_mode",
        "inherit_priority",
        "levels",
        "publish_retry",
        "retry",
        "retry_policy",
        "router",
        "sent_events",
        "serializer",
        "version",
    )

    def __init__(self, app: AppLike) -> None:
        conf = app.conf
        # Read the version first: if a setting changes during this constructor, everything is read again.
        self.version = conf.version
        self.always_eager: bool = conf["task_always_eager"]
        self.router = TaskRouter(conf)
        app.amqp.queues.restore(self.router)
        self.serializer: str = conf["task_serializer"]
        self.compression: str | None = conf["task_compression"]
        self.delivery_mode = _delivery_mode(conf["task_default_delivery_mode"])
        self.inherit_priority: bool = conf["task_inherit_parent_priority"]
        self.levels: int = conf["task_repr_maxlevels"]
        self.sent_events: bool = conf["task_send_sent_event"]
        self.retry: bool = conf["task_publish_retry"]
        self.retry_policy: Mapping[str, object] = conf["task_publish_retry_policy"]
        self.publish_retry = PublishRetry.from_setting(self.retry_policy)


def _delivery_mode(value: Any) -> int:
    return _DELIVERY_MODES.get(value) or int(value)


def _retries(options: Mapping[str, Any], defaults: Defaults) -> bool:
    """Return whether publishing is retried when the broker cannot be reached."""
    own = options.get("retry")
    return bool(defaults.retry if own is None else own)


def _retry(options: Mapping[str, Any], defaults: Defaults) -> PublishRetry:
    """Return the retry policy of publishing, from the call's options and the settings."""
    if not _retries(options, defaults):
        return ONCE
    own = options.get("retry_policy")
    return PublishRetry.from_setting({**defaults.retry_policy, **own}) if own else defaults.publish_retry


class Sender:
    """Sends the calls of one app.

    Made with the app; reads settings at the first call and after each change.
    """

    def __init__(self, app: AppLike) -> None:
        self._app = app
        self._defaults: Defaults | None = None
        #: The publishers of the app.
        self.publishing = Publishing(app)
        #: The events that the app sends.
        self.events = Events(app, self.publishing)

    @property
    def defaults(self) -> Defaults:
        """The defaults for the current settings."""
        found = self._defaults
        if found is None or found.version != self._app.conf.version:
            found = self._defaults = Defaults(self._app)
        return found

    def send_event(
        self, kind: str, fields: Mapping[str, Any], retry: bool, policy: Mapping[str, object] | None
    ) -> None:  # fmt: skip
        """Send an event of the program's own. Raises EncodeError, OperationalError."""
        self.events.send(kind, fields, _retry({"retry": retry, "retry_policy": policy}, self.defaults))

    @property
    def router(self) -> TaskRouter:
        """The router for the current settings."""
        return self.defaults.router

    def send(
        self,
        name: str,
        args: Any,
        kwargs: Any,
        task_id: str | uuid.UUID | None,
        task: TaskLike | None,
        options: dict[str, Any],
    ) -> AsyncResult:
        """Publish one call and return its handle.

        With ``task_always_eager`` run the task instead. ``task`` is None for a call by name. ``options`` is
        modified. Raises EncodeError, OperationalError, and TypeError or ValueError for invalid arguments and
        options.
        """
        args, kwargs = check_arguments(args, kwargs)
        task_id = text_id(task_id) if task_id else str(uuid4())
        options = self._with_task_options(name, task, options)
        defaults = self.defaults
        if defaults.always_eager:
            if task is not None:
                return eager.run_instead_of_sending(task, args, kwargs, task_id, options)
            warnings.warn(AlwaysEagerIgnored("task_always_eager has no effect on send_task"), stacklevel=3)
        ignore_result = options.pop("ignore_result", None)
        add_to_parent = options.pop("add_to_parent", True)
        routed = defaults.router.route(options, options.pop("route_name", None) or name, args, kwargs, task)
        to = defaults.router.destination(routed)
        if routed.get("countdown") or routed.get("eta"):
            to = self._delayed(to, routed, defaults)
        if routed.get("immediate"):
            warnings.warn(TurboWarning("immediate has no effect: RabbitMQ has not had it since 3.0"), stacklevel=4)
        frame = self._inherit(routed, defaults)
        headers, content_of, header, body = self._encode(
            task_id, name, args, kwargs, ignore_result, to, routed, defaults
        )
        retry = _retry(routed, defaults)
        self.publishing.publish(to, header, body, routed, retry, wants_result=not ignore_result)
        if publish_signals.after_receivers:
            publish_signals.after(name, to, headers, content_of)
        if defaults.sent_events:
            self.events.sent(name, headers, to, routed, retry)
        result = (self._app if task is None else task).AsyncResult(task_id)
        result.ignored = bool(ignore_result)
        if add_to_parent and frame is not None:
            frame.task.add_trail(result)
        return result

    def _delayed(self, to: Destination, options: Mapping[str, Any], defaults: Defaults) -> Destination:
        """Return where a call that is not yet due is delayed; otherwise ``to``.

        Only a broker with a cascade can delay it. In a worker's child, the worker delays the message instead.
        """
        queue = options.get("queue")
        if queue is None or not uses_cascade(queue) or current.in_worker_child():
            return to
        now = self._app.now()
        due = as_time(options.get("countdown") or options.get("eta"), now, "countdown or eta")
        return to if due is None else defaults.router.delayed(to, queue, seconds_until(due, now))

    def _with_task_options(self, name: str, task: TaskLike | None, options: dict[str, Any]) -> dict[str, Any]:
        """Return the task's own options, overridden by those of the call."""
        if task is not None:
            return {**task.send_options(), **options}
        known = self._app.registered(name)
        if known is None:
            return options
        # A call by name does not take ignore_result from the task; only an explicit option sets it.
        own = {k: v for k, v in known.send_options().items() if v is not None and k != "ignore_result"}
        return {**own, **options}

    def _inherit(self, options: dict[str, Any], defaults: Defaults) -> current.Frame | None:
        """Fill in root_id, parent_id and priority from the calling task.

        Returns its frame, or None outside a task.
        """
        frame = current.worker_frame()
        if frame is None:
            return None
        request = frame.request
        if not options.get("root_id"):
            options["root_id"] = request.root_id or request.id
        if not options.get("parent_id"):
            options["parent_id"] = request.id
        if defaults.inherit_priority and options.get("priority") is None:
            options["priority"] = (request.delivery_info or {}).get("priority")
        return frame

    def _encode(
        self,
        task_id: str,
        name: str,
        args: Any,
        kwargs: Any,
        ignore_result: bool | None,
        to: Destination,
        options: dict[str, Any],
        defaults: Defaults,
    ) -> tuple[dict[str, Any], Any, bytes, bytes]:
        """Return the message's headers and body, then its encoded content header and body.

        Raises EncodeError.
        """
        get = options.get
        eta, expires, life = self._times(task_id, get("countdown"), get("eta"), get("expires"))
        if life is None and get("expires") is None:
            life = get("expiration")
        headers, content_of, props = message.build(
            task_id,
            name,
            args,
            kwargs,
            eta=eta,
            expires=expires,
            expiration=None if life is None else milliseconds(life),
            ignore_result=ignore_result,
            origin=get("origin") or self.publishing.origin(),
            reply_to=get("reply_to") or self.publishing.thread_id(),
            delivery_mode=_delivery_mode(to.delivery_mode or defaults.delivery_mode),
            repr_levels=defaults.levels,
            **message_fields(options),
        )
        put_properties(options, props)
        if publish_signals.before_receivers:
            policy = {**defaults.retry_policy, **(get("retry_policy") or {})}
            publish_signals.before(name, to, headers, content_of, props, policy)
        body, props.content_type, props.content_encoding = content.encode(
            content_of, get("serializer") or defaults.serializer
        )
        packing = get("compression") or defaults.compression
        if packing:
            body, headers["compression"] = compression.compress(body, packing)
        props.headers = headers
        return headers, content_of, properties.encode_header(props, len(body)), body

    def _times(
        self, task_id: str, countdown: float | None, eta: Any, expires: Any
    ) -> tuple[datetime | str | None, datetime | str | None, float | None]:
        """Return ETA and expiry as times, and the message's time to live in seconds.

        The time to live is None without an expiry, or when it is longer than RabbitMQ allows.
        """
        if not countdown and expires is None:
            return eta, None, None
        now = self._app.now()
        if countdown:
            eta = now + timedelta(seconds=check_seconds(countdown, "countdown"))
        if expires is None:
            return eta, None, None
        expires = as_time(expires, now, "expires")
        if expires is None:
            return eta, None, None
        left = seconds_until(expires, now)
        if left < 0:
            logger.warning(
                "Task %s has an expiry in the past (%g s ago); sending it with a time to live of 0", task_id, -left
            )
            left = 0.0
        return eta, expires, left if left <= LONGEST_LIFE else None
