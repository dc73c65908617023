"""The page's words for measures, their variants and what they read."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class About:
    """What the page says of a measure, and the metrics that it plots: name, title, unit."""

    title: str
    text: str
    plots: tuple[tuple[str, str, str], ...]


_MORE, _LESS = "more is better", "less is better"
#: The measures in the order of the page.
ABOUT = {
    "drain": About("Emptying a queue", "The queue is filled with confirmed messages before the worker starts. The "
                   "time is measured from the end of the first task to the end of the last (with results: until the "
                   "last result is stored). A microsecond of processor time a task is a core-second per million "
                   "tasks.",
                   (("tasks_per_s", "Tasks a second", _MORE),
                    ("cpu_us_per_task", "Core-seconds of the worker per million tasks", _LESS))),
    "io": About("Tasks that wait", "Every task only waits, as many at once as `-c` says: processes with turbo and "
                "Celery, threads or coroutines of one process with the others. The share of the ideal is the part of "
                "their time in which the slots were filled, until the last task begins. Memory is the PSS of the whole "
                "worker at the end.",
                (("tasks_per_s", "Tasks a second", _MORE), ("used_mib", "Memory, MiB", _LESS),
                 ("cpu_us_per_task", "Core-seconds of the worker per million tasks", _LESS))),
    "mixed": About("Short tasks among long ones", "200 tasks a second come to 8 children: 1 in 100 takes 0.5 s, the "
                   "others 5 ms, so three quarters of the children are free. Measured is the time from the "
                   "publisher's write to the first line of a short task.",
                   (("fast_p99_ms", "Wait of short tasks, p99, ms", _LESS),)),
    "recover": About("Kills", "Two children run tasks of 20 ms; SIGKILL comes five times. `worker`: all processes of "
                     "the worker die at once, and it is started again at once. `child`: one process that runs tasks "
                     "dies. Recovered is when a process that was not there before has ended a task. `requeue` is "
                     "`task_acks_late` with `task_reject_on_worker_lost`; without it the default, early "
                     "acknowledgement, gives up what was running.",
                     (("recover_s", "Seconds from the kill to the recovery", _LESS),
                      ("lost_per_kill", "Tasks lost a kill", _LESS))),
    "latency": About("Latency", "Time from the publisher's write to the task's first line, at a steady rate.",
                     (("p50_ms_at_200", "Publish to start at 200/s, p50, ms", _LESS),
                      ("p99_ms_at_1000", "Publish to start at 1,000/s, p99, ms", _LESS))),
    "memory": About("Memory", "PSS of the whole process tree: `idle` is before any task, `used` is idle again after "
                    "1,000 tasks.",
                    (("idle_mib", "Idle memory at -c 2, MiB", _LESS),
                     ("idle_mib_per_further_child", "Each further child, MiB", _LESS))),
    "startup": About("Start", "Time from the start of the command to the end of the first task. The message waits in "
                     "the queue, and the files are in the page cache.",
                     (("seconds_to_first_task", "Command to first task, s", _LESS),)),
    "large": About("Large messages", "A queue of messages whose argument is a string of 1 MB.",
                   (("tasks_per_s", "Messages of 1 MB a second", _MORE),)),
    "scale": About("Many children", "The same tasks with 2, 32 and 200 children: no-op tasks, and tasks that wait 10 "
                   "ms. Started is when every child has begun a task. Memory is the PSS of the whole worker then, "
                   "divided by the children.",
                   (("master_cpu_us_per_task", "Core-seconds of the master per million no-op tasks", _LESS),
                    ("waiting_tasks_per_s", "Tasks that wait 10 ms, a second", _MORE),
                    ("seconds_to_all_children", "Command to the last child's first task, s", _LESS),
                    ("mib_per_child", "Memory per child, MiB", _LESS))),
    "fairness": About("A queue of short and long tasks", "A shuffled queue of 2,000 tasks with `-c 4`: 1 in 100 sleeps "
                      "1 s, the others 5 ms. The ideal is a dispatcher without cost that gives each free child the "
                      "next message.",
                      (("of_ideal", "Makespan against the ideal", _LESS),)),
    "waiting": About("Coroutines", "A queue of tasks that each wait 5 ms, once as `async def` and once as `def`; two "
                     "children.",
                     (("tasks_per_s", "Tasks that wait 5 ms, a second", _MORE),)),
    "control": About("Remote control at full load", "Repeated `inspect ping` while a queue of no-op tasks is drained: "
                     "time from the write of the request to the arrival of the answer.",
                     (("ping_p99_ms", "inspect ping at full load, p99, ms", _LESS),)),
    "enqueue": About("Calls of `delay`", "Calls of `delay` in one thread, without a consumer: without confirms, with "
                     "each call waiting for its confirm, and in a pipeline, which waits for all confirms at its end.",
                     (("calls_per_s", "Calls of delay a second", _MORE),
                      ("cpu_us_per_call", "Processor time of a call, µs", _LESS))),
    "trace": About("Decoding and tracing", "Processor time of a child for a no-op task, in one process without a "
                   "broker. turbo: decoded and run by its executor. Celery: run by its tracer, with the request that "
                   "its master creates from the headers. `with_transport` adds turbo's rings, or the pickling through "
                   "pipes of Celery's pool.",
                   (("us_per_task", "Decoding and tracing a no-op task, µs", _LESS),)),
    "rings": About("The rings alone", "Records of 200 bytes go to a child, which claims them, copies them and reports "
                   "as many bytes back: `batch` with 64 records in flight, `single` with one.",
                   (("batch_us", "A record through the rings and back, µs", _LESS),)),
    "trace-less": About("Without decoding and tracing", "turbo with and without decoding and running tasks; "
                        "connection, rings and children are the same.",
                        (("tasks_per_s", "Tasks a second", _MORE),)),
}  # fmt: skip

#: What the page calls a metric; others keep their names.
METRICS = {
    "tasks_per_s": "tasks a second",
    "cpu_us_per_task": "core-seconds of the worker per million tasks",
    "master_cpu_us_per_task": "core-seconds of the first process",
    "children_cpu_us_per_task": "core-seconds of the others",
    "broker_cpu_us_per_task": "core-seconds of the broker",
    "share_of_ideal": "share of the ideal",
    "used_mib": "memory at the end, MiB",
    "idle_mib": "idle memory, MiB",
    "main_own_mib": "what the idle first process shares with no other, MiB",
    "others_own_mib": "the same of the others, mean, MiB",
    "fast_p50_ms": "short tasks, p50, ms",
    "fast_p99_ms": "short tasks, p99, ms",
    "fast_worst_ms": "short tasks, longest, ms",
    "delivery_ratio": "part of the tasks that ran",
    "lost_per_kill": "tasks lost a kill",
    "ran_again_per_kill": "tasks that ran twice, a kill",
    "recover_s": "seconds to the recovery, median",
    "recover_worst_s": "seconds to the recovery, longest",
    "seconds_to_first_task": "seconds to the first task done",
    "seconds_to_all_children": "seconds to the start of the last child's first task",
    "mib_per_child": "memory per child, MiB",
    "waiting_tasks_per_s": "tasks that wait 10 ms, a second",
    "waiting_cpu_us_per_task": "core-seconds of the worker per million of those",
}

_WORDS = {
    "none": "no results",
    "redis": "results in Redis",
    "rpc": "results over rpc",
    "quorum": "quorum queue",
    "classic": "classic queue",
    "celery-app": "a Celery app",
    "events": "with and without `-E`",
    "multiplier1": "`worker_prefetch_multiplier=1`",
    "late": "`acks_late`",
    "worker": "the whole worker",
    "child": "one child",
    "shared-memory": "shared memory",
}


def in_words(variant: str) -> str:
    """What tells a run from others of its measure, as a heading."""
    words = []
    for word in re.findall(r"celery-app|shared-memory|[\d.]+-[\d.]+ms|[^-]+", variant):
        if re.fullmatch(r"c\d+", word):
            words.append(f"`-c {word[1:]}`")
        else:
            words.append(_WORDS.get(word, word.replace("-", " to ").replace("ms", " ms")))
    text = ", ".join(words)
    return text[0].upper() + text[1:]
