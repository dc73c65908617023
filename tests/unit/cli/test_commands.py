"""The command line itself: what is accepted, refused by name, and which exit code says so."""

from __future__ import annotations

import logging
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from tests.unit.cli.conftest import APP, Ran
from turbo import __version__
from turbo.cli.main import COMMANDS
from turbo.cli.main import turbo as command
from turbo.cli.worker_params import worker_params
from turbo.control.report import build


def turbo(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, prog_name="turbo")


def test_version() -> None:
    assert turbo("--version").output == f"turbo {__version__}\n"


@pytest.mark.row("CL2", "CL3")
@pytest.mark.parametrize("after", [True, False])
def test_global_options_stand_before_or_after(module: str, ran: Ran, after: bool) -> None:
    options = ["-A", module, "-b", "amqp://other//", "--result-backend", "redis://other/3"]
    result = turbo(*(["worker", *options] if after else [*options, "worker"]))
    assert result.exit_code == 0, result.output
    app, _ = ran.calls[0]
    assert app.turbo.main == "proj"
    assert (app.conf.broker_url, app.conf.result_backend) == ("amqp://other//", "redis://other/3")


@pytest.mark.row("CL1", "CL4", "CL5", "CL6", "CL9", "CL13", "CL14", "CL18")
def test_every_option_of_the_main_job(module: str, ran: Ran) -> None:
    result = turbo(
        *(
            "-A",
            module,
            "worker",
            "-c",
            "3",
            "-Q",
            "a,b, c",
            "-X",
            "b",
            "-n",
            "w1@box",
            "-l",
            "INFO",
            "-O",
            "fair",
        ),
        *("-P", "prefork", "--time-limit", "20", "--soft-time-limit", "1.5", "--max-tasks-per-child", "100"),
        *("--max-memory-per-child", "512MB", "--max-memory-per-child-hard", "1GB", "--shutdown-timeout", "9"),
        *(
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            "--heartbeat-interval",
            "5",
            "--purge",
        ),
    )
    assert result.exit_code == 0, result.output
    options = ran.calls[0][1]
    assert options.concurrency == 3
    assert (options.queues, options.exclude_queues) == (("a", "b", "c"), ("b",))
    assert (options.hostname, options.loglevel) == ("w1@box", logging.INFO)
    assert (options.time_limit, options.soft_time_limit, options.shutdown_timeout) == (20, 1.5, 9)
    assert (options.max_tasks_per_child, options.max_memory_per_child) == (100, 524288)
    assert options.max_memory_per_child_hard == 1048576
    assert options.purge is True
    assert options.heartbeat_interval is None


@pytest.mark.row("CL3")
def test_the_environment_stands_behind_the_command_line(module: str, ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_WORKER_CONCURRENCY", "7")
    monkeypatch.setenv("TURBO_WORKER_LOGLEVEL", "error")
    turbo("-A", module, "worker")
    turbo("-A", module, "worker", "-c", "2")
    assert [options.concurrency for _, options in ran.calls] == [7, 2]
    assert ran.calls[0][1].loglevel == logging.ERROR


@pytest.mark.row("CL8", "CL23")
@pytest.mark.parametrize(
    "arguments",
    [
        ["-P", "gevent"], ["-P", "eventlet"],
        ["--pool-start-method", "spawn"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_is_not_supported_is_refused_by_name(module: str, ran: Ran, arguments: list[str]) -> None:
    result = turbo("-A", module, "worker", *arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.output or arguments[0].lstrip("-") in result.output
    assert "not supported" in result.output
    assert not ran.calls


@pytest.mark.row("CL19")
def test_the_command_of_the_beat_beside_the_worker(module: str, ran: Ran) -> None:
    options = ["-l", "INFO", "-f", "log.txt", "-s", "runs", "--scheduler", "mine:Own", "--", "beat.max_loop_interval=5"]
    assert turbo("-A", module, "worker", "-B", *options).exit_code == 0
    where = ["-m", "turbo", "-A", f"{module}:app", "beat", "--beside-worker"]
    assert ran.beat[1:] == [
        *where, "-l", "INFO", "-f", "log.txt", "-s", "runs", "-S", "mine:Own", "--", "beat.max_loop_interval=5",
    ]  # fmt: skip
    turbo("-A", module, "worker")
    assert ran.beat == []


@pytest.mark.row("CL15", "PL20")
@pytest.mark.parametrize(
    ("given", "most", "least"), [("10,3", 10, 3), ("3,10", 10, 3), ("8", 8, 0), ("4,4", 4, 4), ("2, 1", 2, 1)]
)
def test_autoscale_takes_two_numbers_in_any_order(module: str, ran: Ran, given: str, most: int, least: int) -> None:
    result = turbo("-A", module, "worker", "--autoscale", given, "-c", "99")
    assert result.exit_code == 0, result.output
    options = ran.calls[0][1]
    assert (options.concurrency, options.autoscale_least, options.autoscale_keepalive) == (most, least, 30.0)
    assert f"autoscaled, {least} to {most}" in result.output


@pytest.mark.row("CL15")
@pytest.mark.parametrize("given", ["", "0", "-1", "3,-1", "many", "1,2,3", "1;2"])
def test_what_is_no_range_of_children_is_refused(module: str, ran: Ran, given: str) -> None:
    result = turbo("-A", module, "worker", f"--autoscale={given}")
    assert result.exit_code == 2
    assert "--autoscale" in result.output
    assert not ran.calls


@pytest.mark.row("CF28", "PL20")
def test_the_keepalive_of_the_autoscaler_comes_from_the_environment(
    module: str, ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOSCALE_KEEPALIVE", "2.5")
    assert turbo("-A", module, "worker", "--autoscale", "3").exit_code == 0
    assert ran.calls[0][1].autoscale_keepalive == 2.5
    for wrong in ("0", "soon", "-3", "inf"):
        monkeypatch.setenv("AUTOSCALE_KEEPALIVE", wrong)
        result = turbo("-A", module, "worker", "--autoscale", "3")
        assert result.exit_code == 1
        assert "AUTOSCALE_KEEPALIVE" in result.output


@pytest.mark.row("CL27")
def test_a_command_of_celerys_is_refused_by_name() -> None:
    result = turbo("graph", "workers")
    assert result.exit_code == 2
    assert "run `celery graph` itself, with the same arguments" in result.output


@pytest.mark.row("CL27")
def test_a_misspelt_name_gets_a_suggestion(module: str, ran: Ran) -> None:
    assert "did you mean 'inspect'?" in turbo("ispect", "ping").output
    assert f"did you mean '{module}'?" in turbo("-A", module[:-1], "status").output
    assert "did you mean 'app'?" in turbo("-A", f"{module}:ap", "status").output
    assert (
        "did you mean 'worker_prefetch_multiplier'?"
        in turbo("-A", module, "worker", "--", "worker.prefetch_multiplyer=1").output
    )
    assert "did you mean 'active'?" in turbo("-A", module, "inspect", "actve").output
    assert "--concurrency" in turbo("-A", module, "worker", "--concurency", "3").output


def test_every_command_has_short_and_long_help() -> None:
    for name in set(COMMANDS) - {"multi"}:
        assert turbo(name, "-h").output == turbo(name, "--help").output
        assert turbo(name, "-h").output.startswith(f"Usage: turbo {name} [OPTIONS]")


@pytest.mark.row("CL25")
@pytest.mark.parametrize("code", [0, 1])
def test_the_workers_exit_code_is_the_commands(module: str, ran: Ran, code: int) -> None:
    ran.code = code
    assert turbo("-A", module, "worker").exit_code == code


@pytest.mark.row("CL2", "CL25")
def test_no_app_is_an_error_that_lists_what_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = turbo("worker")
    assert result.exit_code == 1
    assert "TURBO_APP" in result.output


@pytest.mark.row("LG15")
def test_the_banner_names_what_matters_and_hides_passwords(module: str, ran: Ran) -> None:
    output = turbo("-A", module, "worker", "-c", "2", "-l", "info", "--time-limit", "5").output
    assert f"  build     {build()}\n" in output
    assert f"{module}:app (from -A)" in output
    assert "amqp://me:**@localhost" in output
    assert "secret" not in output and "hidden" not in output
    assert "children  2" in output
    assert "hard 5 s" in output
    assert "celery  exchange=celery(direct) key=celery" in output
    assert f"{module}.add" in output or "proj.add" in output


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--prefetch-multiplier", "1"), "prefetch  2, fixed; faster for short tasks: --prefetch adaptive\n"),
        (("--prefetch-multiplier", "1", "--prefetch", "adaptive"), "prefetch  adaptive, from 2\n"),
        (("--prefetch-multiplier", "16"), "prefetch  32, fixed\n"),
        ((), "prefetch  adaptive, from 8\n"),
    ],
)
def test_the_banner_says_how_a_small_window_is_lifted(
    module: str, ran: Ran, options: tuple[str, ...], says: str
) -> None:
    assert says in turbo("-A", module, "worker", "-c", "2", *options).output


def test_quiet_prints_no_banner(module: str, ran: Ran) -> None:
    assert turbo("-A", module, "-q", "worker").output == ""


@pytest.mark.row("CL24")
@pytest.mark.parametrize(("forced", "code"), [("", 1), ("1", 0)])
def test_root_does_not_unpickle(module: str, ran: Ran, monkeypatch: pytest.MonkeyPatch, forced: str, code: int) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("C_FORCE_ROOT", forced)
    Path(f"{module}.py").write_text(APP + "app.conf.accept_content = ['json', 'pickle']\n")
    result = turbo("-A", module, "worker")
    assert result.exit_code == code
    assert ("C_FORCE_ROOT" in result.output) is (code == 1)


@pytest.mark.row("CL4")
def test_no_queue_left_is_an_error(module: str, ran: Ran) -> None:
    result = turbo("-A", module, "worker", "-X", "celery")
    assert result.exit_code == 1
    assert "no queue" in result.output


def test_every_option_says_what_it_does() -> None:
    options = [param for param in worker_params() if isinstance(param, click.Option)]
    silent = [option.opts for option in options if not option.help and not option.hidden]
    assert not silent


def test_report_shows_versions_and_settings_without_passwords(module: str, ran: Ran) -> None:
    output = turbo("report", "-A", module).output
    assert f"turbo {__version__}\nbuild {build()}\n" in output
    assert "broker_url" in output
    assert "secret" not in output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["call", "proj.add", "--serializer", "foo"], "proj.add cannot be sent: No encoder installed for foo"),
        (["call", "proj.add", "--countdown", "1e300"], "countdown is out of range"),
        (["call", "proj.add", "--expires", "nan"], "expires is out of range"),
        (["inspect", "ping", "--timeout", "nan"], "must not be below zero"),
        (["inspect", "ping", "--timeout", "-1"], "must not be below zero"),
        (["result", "x", "--timeout", "nan"], "must not be below zero"),
    ],
)
def test_a_wrong_value_of_a_client_command_is_a_wrong_command_line(
    module: str, arguments: list[str], said: str
) -> None:
    result = turbo("-A", module, *arguments)
    assert (result.exit_code, said in result.output) == (2, True), result.output


@pytest.mark.parametrize(
    "arguments", [["status"], ["purge", "--force"], ["amqp", "queue.purge", "q"], ["inspect", "ping"]]
)
def test_a_broker_that_is_not_there_is_named_with_what_to_do(module: str, arguments: list[str]) -> None:
    result = turbo("-A", module, "-b", "amqp://guest:secret@127.0.0.1:1//", *arguments)
    assert result.exit_code == 69, result.output
    assert "ConnectionRefusedError" in result.output
    assert "nothing listens there: start the broker, or correct host and port" in result.output
    assert "secret" not in result.output
