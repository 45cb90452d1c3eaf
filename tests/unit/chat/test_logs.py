from __future__ import annotations

import logging
import subprocess
import sys

import orjson

from chat.logs import KINDS_MAX, LINES_PER_S, Pace, _Paced


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_so_many_lines_of_a_kind_pass_in_a_second_and_the_next_second_tells_of_the_others() -> None:
    clock = Clock()
    pace = Pace(clock)
    passed = [pace.left_out("refused") for _ in range(LINES_PER_S + 7)]
    assert passed == [0] * LINES_PER_S + [None] * 7
    clock.now = 1.0
    assert pace.left_out("refused") == 7
    assert pace.left_out("refused") == 0


def test_one_kind_does_not_use_up_what_another_may_say() -> None:
    pace = Pace(Clock())
    for _ in range(LINES_PER_S + 1):
        pace.left_out("refused")
    assert pace.left_out("failed") == 0


def test_kinds_that_never_come_again_are_forgotten() -> None:
    pace = Pace(Clock())
    for kind in range(KINDS_MAX * 3):
        assert pace.left_out(kind) == 0
    assert len(pace._kinds) <= KINDS_MAX


SCRIPT = """
import logging, sys
from chat import logs
from chat.settings import Settings

logs.configure(Settings(log_format="json", log_level="info"))
logging.basicConfig(stream=sys.stdout, format="%(message)s")
log = logs.get("here")
for number in range(100):
    log.info("refused", code="unavailable", session=number)
    log.info("refused", code="not_a_member", session=number)
    logging.getLogger("aiokafka.client").error("Unable connect to node with id %s", number)
"""


def test_what_a_worker_writes_is_bounded_whoever_writes_it() -> None:
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    lines = [orjson.loads(line) for line in ran.stderr.splitlines()]
    # The script may run across the end of a second.
    for code in ("unavailable", "not_a_member"):
        assert LINES_PER_S <= sum(line["code"] == code for line in lines) <= 2 * LINES_PER_S
    assert LINES_PER_S <= len(ran.stdout.splitlines()) <= 2 * LINES_PER_S
    assert ran.stdout.splitlines()[0] == "Unable connect to node with id 0"


def test_what_was_left_out_is_said_in_the_next_line_of_a_library() -> None:
    paced, clock = _Paced(), Clock()
    paced._pace = Pace(clock)

    def record() -> logging.LogRecord:
        return logging.LogRecord("aiokafka.client", logging.ERROR, "", 0, "no node %s", (1,), None)

    assert [paced.filter(record()) for _ in range(LINES_PER_S + 3)] == [True] * LINES_PER_S + [False] * 3
    clock.now = 1.5
    last = record()
    assert paced.filter(last)
    assert last.getMessage() == "no node 1 (3 lines like this one left out)"
