"""More than there is room for, a Kafka that is away, a topic that refuses: coded refusals, bounded memory, no loss."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from chat.log.topics import COMMANDS, EVENTS, admin_client
from chat.settings import Settings
from tests.conformance.wire import Peer, connected
from tests.engines import Engines, Worker, Workers, eventually
from tests.faults.overload import TIMES, Rig

COMMAND_TIMEOUT_S = 3.0
IN_FLIGHT_MAX = 500
GROWTH_MIB = 150.0
FLOOR_S = 0.5
BACK_WITHIN_S = 25.0
LIGHT = 0.1
"""Of the capacity. Other tests have the machine too, and start engines of their own meanwhile: what counts here is that
no queue is left. The long version (`python -m tests.faults overload`) compares with before, and allows 10 s."""
TRIES = 3
"""To offer too much."""
ROLES = ("gateway", "sequencer")
LARGE = "x" * 20_000


# ---------------------------------------------------------------- too much


def _rig(workers: Workers, made: dict[str, Worker], **settings: float) -> Rig:
    pids = {name: worker.pid for name, worker in made.items()}
    return Rig(
        workers.namespace.settings(**settings),
        made["gateway"].port,
        pids,
        floor_s=FLOOR_S,
        back_within_s=BACK_WITHIN_S,
    )


async def test_three_times_the_capacity_loses_nothing_and_is_over_when_it_ends(worker: Workers) -> None:
    made = dict(zip(ROLES, await worker.together(*ROLES), strict=True))
    rig = _rig(worker, made)
    async with rig.offering:
        await eventually(lambda: rig.offering.connected == 48, "everybody is connected")
        capacity = await rig.capacity(0.5)
        for _ in range(TRIES):
            found = await rig.stretch("overload", TIMES * capacity, 10.0, light_per_s=LIGHT * capacity, light_s=30.0)
            if found.refused:
                break
            capacity *= TIMES  # the machine was busy with something else when it was measured
    found.findings = await rig.audit()
    assert found.faults() == [], str(found)
    assert found.sent > found.receipted > 0
    assert found.refused.keys() & {"too_many_in_flight", "unavailable"}, str(found)
    assert all(found.memory.grown(name) < GROWTH_MIB for name in made), str(found)


async def test_without_kafka_waiting_commands_are_bounded_refused_and_all_is_well_after(
    own_worker: Workers, own_engines: Engines
) -> None:
    settings = {"command_timeout_s": COMMAND_TIMEOUT_S, "in_flight_max": IN_FLIGHT_MAX}
    made = dict(zip(ROLES, await own_worker.together(*ROLES, **settings), strict=True))
    rig = _rig(own_worker, made, **settings)
    async with rig.offering:
        await eventually(lambda: rig.offering.connected == 48, "everybody is connected")
        found = await rig.stretch(
            "without Kafka", 300.0, 6.0, light_per_s=200.0, light_s=30.0, during=lambda: own_engines.paused("kafka")
        )
    found.findings = await rig.audit()
    assert found.faults() == [], str(found)
    assert found.refused["unavailable"] > IN_FLIGHT_MAX / 4
    assert 0 < found.in_flight <= IN_FLIGHT_MAX
    assert all(found.memory.grown(name) < GROWTH_MIB for name in made), str(found)


# ---------------------------------------------------------------- topics that refuse


@asynccontextmanager
async def configured(settings: Settings, topic: str, **changed: str) -> AsyncIterator[None]:
    """A topic with other settings, for the body of the `async with`."""
    name = settings.topic(topic)
    async with admin_client(settings) as admin:
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
        # 1 is a topic's own value (source of a setting, Kafka's protocol): what stands here replaces all of them.
        kept = {entry[0]: entry[1] for entry in answer.resources[0][4] if entry[3] == 1}
        wanted = kept | {key.replace("_", "."): value for key, value in changed.items()}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, wanted)])
        try:
            yield
        finally:
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, kept)])


class Chatter:
    """Somebody who hears of refusals, and remembers what was receipted."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.receipted: list[str] = []
        self.duplicates = 0

    async def post(self, name: str, body: str = "hi") -> str:
        """SEND with `name` as client id: "RECEIPT", or the code of the refusal."""
        await self._peer.send("SEND", body, destination="/room/lobby", receipt=name, x_client_id=name)
        while True:
            answer = await self._peer.next()
            if answer.headers.get("receipt-id") == name:
                break
        if answer.command == "RECEIPT":
            self.receipted.append(name)
            self.duplicates += "x-duplicate" in answer.headers
        return answer.headers.get("error-code", answer.command)

    async def until_refused(self, name: str, body: str = "hi") -> str:
        """Post until one is refused (a topic's new setting takes a moment to arrive): the name of that one."""
        for n in range(200):
            if (answer := await self.post(f"{name}-{n}", body)) != "RECEIPT":
                assert answer == "unavailable"
                return f"{name}-{n}"
        raise AssertionError("nothing was refused")

    async def until_receipted(self, name: str, body: str = "hi") -> None:
        """Send the same again until it is receipted, as a client does."""
        async with asyncio.timeout(30):
            while (answer := await self.post(name, body)) != "RECEIPT":
                assert answer == "unavailable"
                await asyncio.sleep(0.1)


@asynccontextmanager
async def chatting(gateway: Worker) -> AsyncIterator[Chatter]:
    """A chatter in the lobby; afterwards the lobby holds what was receipted, once, in that order."""
    async with connected(gateway.port) as peer:
        await peer.send("SUBSCRIBE", id="e", destination="/user/queue/errors", receipt="e")
        await peer.expect("RECEIPT", receipt_id="e")
        chatter = Chatter(peer)
        assert await chatter.post("before") == "RECEIPT"
        yield chatter
        assert await chatter.post("after") == "RECEIPT"
    async with connected(gateway.port) as peer:
        await peer.send("SUBSCRIBE", id="r", destination="/room/lobby", receipt="r", x_from_seq="1")
        head = await peer.receipt("r")
        messages = await peer.messages(int(head.headers["x-head-seq"]))
    assert [message.headers["x-client-id"] for message in messages] == chatter.receipted


async def test_a_command_topic_that_refuses_a_record_makes_one_refusal_and_no_loss(worker: Workers) -> None:
    gateway, _ = await worker.together(*ROLES, command_timeout_s=COMMAND_TIMEOUT_S)
    async with chatting(gateway) as chatter:
        async with configured(worker.namespace.settings(), COMMANDS, max_message_bytes="5000"):
            refused = await chatter.until_refused("large", LARGE)
            assert await chatter.post("small") == "RECEIPT"
        await chatter.until_receipted(refused, LARGE)
        assert chatter.duplicates == 0


async def test_a_command_topic_that_takes_nothing_makes_unavailable_and_no_message(worker: Workers) -> None:
    gateway, _ = await worker.together(*ROLES, command_timeout_s=COMMAND_TIMEOUT_S)
    async with chatting(gateway) as chatter:
        async with configured(worker.namespace.settings(), COMMANDS, max_message_bytes="50"):
            refused = await chatter.until_refused("any")
            for n in range(20):
                assert await chatter.post(f"more-{n}") == "unavailable"
        await chatter.until_receipted(refused)
        assert chatter.duplicates == 0


async def test_an_event_topic_that_refuses_a_record_means_no_receipt_until_it_takes_it(worker: Workers) -> None:
    gateway, sequencer = await worker.together(*ROLES, command_timeout_s=COMMAND_TIMEOUT_S)
    async with chatting(gateway) as chatter:
        async with configured(worker.namespace.settings(), EVENTS, max_message_bytes="5000"):
            large = await chatter.until_refused("large", LARGE)
            assert await chatter.post("small") == "unavailable"
        await eventually(lambda: not sequencer.alive, "the sequencer has left: its restart is how it tries again")
        await sequencer.start()
        await chatter.until_receipted(large, LARGE)
        await chatter.until_receipted("small")
        assert chatter.duplicates == 2
