from dataclasses import replace

import pytest

from chat import settings
from chat.settings import ROLE_PORT
from stack import plan
from stack.errors import StackError
from stack.plan import Counts

SETTINGS = settings.load({"ROOMLOG_WEB_PORT": "7000", "ROOMLOG_ENGINE_PORT_BASE": "8000"})


def test_one_worker_of_each_role_is_named_after_it() -> None:
    assert [(worker.name, worker.role, worker.port) for worker in plan.workers(SETTINGS, Counts())] == [
        (role, role, 7000 + offset) for role, offset in ROLE_PORT.items()
    ]


def test_a_second_worker_has_a_number_and_the_next_port() -> None:
    names = [(worker.name, worker.port) for worker in plan.workers(SETTINGS, Counts(2, 0, 0, 0))]
    assert names == [("gateway", 7000), ("gateway-2", 7001)]


def test_numbers_of_workers_come_from_the_environment_and_leave_the_others() -> None:
    environ = {"GATEWAYS": "3", "SEQUENCERS": " 2 ", "ARCHIVERS": ""}
    assert Counts(archiver=4).changed(environ) == Counts(gateway=3, sequencer=2, archiver=4, projector=1)


@pytest.mark.parametrize("value", ["-1", "two", "21", "1.5", "0"])
def test_a_number_of_gateways_that_cannot_be_is_one_line_with_its_variable(value: str) -> None:
    with pytest.raises(StackError, match=rf"^GATEWAYS={value}: must be a number from 1 to 20$"):
        plan.counts_named({"GATEWAYS": value})


def test_an_engine_whose_address_is_given_is_not_started_and_binds_no_port() -> None:
    given = replace(SETTINGS, kafka="10.0.0.1:9092", redis="10.0.0.1:6379")
    assert plan.local_engines(given) == ("cassandra",)
    assert {name for name, _ in plan.ports(given, Counts.none()).values()} == {"cassandra"}


def test_every_port_says_which_variable_moves_it() -> None:
    ports = plan.ports(SETTINGS, Counts(gateway=2))
    assert ports[8000] == ("kafka", "ROOMLOG_ENGINE_PORT_BASE")
    assert ports[7001] == ("gateway-2", "ROOMLOG_WEB_PORT")
    assert len(ports) == 6 + 5


def test_engines_and_workers_that_would_share_a_port_are_refused() -> None:
    with pytest.raises(StackError, match=r"port 7001 is both kafka's and gateway-2's"):
        plan.ports(replace(SETTINGS, engine_port_base=7001), Counts(gateway=2))


def test_counts_survive_json() -> None:
    counts = Counts(2, 3, 4, 5)
    assert plan.counts_from(counts.as_dict()) == counts
