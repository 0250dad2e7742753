"""The log as a process writes it: structured lines, and no text unless asked for."""

import json
import subprocess
import sys
from typing import Any

import pytest

SECRET = "the password is swordfish"  # noqa: S105 - what somebody said

LINES = """
import asyncio, contextvars, logging, sys, threading
from voxroute_serving.errors import EngineError
from voxroute_serving.telemetry.logs import bound, get_logger, set_up_logs

set_up_logs("debug", sys.argv[1], log_text=sys.argv[2] == "text")
said = "the password is swordfish"
log = get_logger("voxroute_serving.x")
log.debug("segment", id=7, text=said, translation=said)
with bound(job="j1", id=1):
    log.info("named", name="n", module="m", args=(1,), id=2, said="100 %s")
try:
    try:
        {}[said]
    except KeyError as error:
        raise EngineError("the model failed") from error
except EngineError:
    log.exception("call")
try:
    raise ExceptionGroup("several", [ValueError(said), RuntimeError("CUDA has no kernel")])
except ExceptionGroup as failures:
    log.error("group", exc_info=failures)

async def lose():
    async def fail():
        raise ValueError(said)
    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    del task
asyncio.run(lose())
"""


def written(log_format: str, text: str) -> str:
    """What the lines above make a process write."""
    done = subprocess.run(
        [sys.executable, "-c", LINES, log_format, text],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == ""
    return done.stderr


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_texts_are_left_out_of_lines_and_of_exceptions(log_format: str) -> None:
    """Fields, quoting exceptions, their causes, groups, and asyncio tell none."""
    log = written(log_format, "no")
    assert SECRET not in log
    for kept in (
        "segment",
        "the model failed",
        "KeyError",
        "CUDA has no kernel",
        "never retrieved",
    ):
        assert kept in log, kept


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_texts_are_in_the_log_where_that_is_asked_for(log_format: str) -> None:
    """Each of the places tells it."""
    assert written(log_format, "text").count(SECRET) >= 6


def test_every_line_is_one_json_object() -> None:
    """Tracebacks are a field of it."""
    lines: list[dict[str, Any]] = [json.loads(one) for one in written("json", "no").splitlines()]
    [call] = [one for one in lines if one["event"] == "call"]
    assert call["exception"].endswith("voxroute_serving.errors.EngineError: the model failed")
    assert "Traceback (most recent call last):" in call["exception"]


def test_a_line_has_its_own_fields_and_those_of_its_job() -> None:
    """Whatever they are called: names that the library's records have, too; its own ones first."""
    lines: list[dict[str, Any]] = [json.loads(one) for one in written("json", "no").splitlines()]
    [line] = [one for one in lines if one["event"] == "named"]
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "named", "job": "j1", "id": 2, "name": "n", "module": "m", "args": [1],
        "said": "100 %s", "level": "info", "logger": "voxroute_serving.x",
    }  # fmt: skip
    [other] = [one for one in lines if one["event"] == "segment"]
    assert "job" not in other


@pytest.mark.parametrize("order", ["log = {log}; {set_up}", "{set_up}; log = {log}"])
def test_whatever_package_logs_here_logs_at_the_level_that_is_asked_for(order: str) -> None:
    """Whether its modules were imported before or after; libraries write warnings and worse."""
    begun = order.format(
        log="get_logger('acme_engine.model')", set_up="set_up_logs('debug', 'console')"
    )
    code = (
        "import logging; from voxroute_serving.telemetry.logs import get_logger, set_up_logs;"
        f"{begun}; log.debug('ours'); logging.getLogger('library').info('theirs')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "ours" in done.stderr
    assert "theirs" not in done.stderr


def test_a_process_that_logs_nothing_never_imports_structlog() -> None:
    """Nor does one whose lines are below its level."""
    code = (
        "import sys; from voxroute_serving.telemetry.logs import get_logger, set_up_logs;"
        "set_up_logs('warning', 'console'); log = get_logger('voxroute_serving.x');"
        "log.info('no'); assert 'structlog' not in sys.modules; log.warning('yes', n=1);"
        "assert 'structlog' in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "yes" in done.stderr
    assert "n=1" in done.stderr
