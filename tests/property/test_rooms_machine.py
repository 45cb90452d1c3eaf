"""Posts, repeats, crashes, zombies, snapshots of any age: what a reader takes is always what the rules say."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from chat.log.taking import Taker
from chat.records import Command, JoinRoom, LeaveRoom, PostMessage, RenumberRoom, Tick, WatchRoom
from tests.property.sequencing_model import Model, Owner, Reader

ROOMS = st.sampled_from(["a", "b"])
PEOPLE = st.sampled_from(["ann", "bob"])
CLIENT_IDS = st.none() | st.sampled_from(["1", "2", "3"])

COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        PostMessage,
        v=st.just(1),
        room=ROOMS,
        sender=PEOPLE,
        nonce=st.just("n"),
        client_id=CLIENT_IDS,
        body=st.text(max_size=3),
        create=st.booleans(),
    ),
    st.builds(JoinRoom, v=st.just(1), room=ROOMS, sender=PEOPLE, client_id=CLIENT_IDS, create=st.booleans()),
    st.builds(LeaveRoom, v=st.just(1), room=ROOMS, sender=PEOPLE, client_id=CLIENT_IDS),
    st.builds(WatchRoom, v=st.just(1), room=ROOMS, users=st.just(("ann",)), create=st.booleans()),
    st.builds(
        RenumberRoom,
        v=st.just(1),
        room=ROOMS,
        sender=st.just("~roomlog"),
        epoch=st.sampled_from(["1", "2", "3", "3e8", "3e9"]),
        above=st.integers(0, 9),
    ),
    st.builds(Tick, v=st.just(1)),
)


class Partition(RuleBasedStateMachine):
    """Up to a handful of writers, of which any may hang, die, or come back after it was put out."""

    writers = Bundle("writers")

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.half_read: list[dict[str, dict[bytes, bytes]]] = []
        self.on_their_way: list[tuple[Owner, list]] = []
        self.readers: list[Reader] = []

    @initialize(target=writers)
    def first_owner(self) -> Owner:
        return self.model.start()

    @rule(commands=st.lists(COMMANDS, min_size=1, max_size=4), stamp_ms=st.integers(0, 100))
    def commands_arrive(self, commands: list[Command], stamp_ms: int) -> None:
        for command in commands:
            self.model.append_command(command, stamp_ms)

    @precondition(lambda self: self.model.commands)
    @rule(data=st.data())
    def a_client_sends_again(self, data: st.DataObject) -> None:
        self.model.append_command(*data.draw(st.sampled_from(self.model.commands)))

    @rule(target=writers)
    def another_owner(self) -> Owner:
        return self.model.start()

    @rule()
    def somebody_reads_the_rows_and_then_hangs(self) -> None:
        self.half_read.append(self.model.read_rows())

    @precondition(lambda self: self.half_read)
    @rule(target=writers)
    def who_hung_fences_at_last(self) -> Owner:
        return self.model.fence(self.half_read.pop(0))

    @rule(writer=writers, count=st.integers(1, 3))
    def writes(self, writer: Owner, count: int) -> None:
        if not any(owner is writer for owner, _ in self.on_their_way):
            self.model.write(writer, count)

    @rule(writer=writers, count=st.integers(1, 3))
    def sends_a_batch_that_is_slow(self, writer: Owner, count: int) -> None:
        if not (writer.dead or writer.out or any(owner is writer for owner, _ in self.on_their_way)):
            batch = self.model.decide(writer, count)
            if batch:
                self.on_their_way.append((writer, batch))

    @precondition(lambda self: self.on_their_way)
    @rule()
    def a_slow_batch_lands(self) -> None:
        self.model.land(*self.on_their_way.pop(0))

    @rule(writer=writers)
    def takes_a_snapshot(self, writer: Owner) -> None:
        # Acknowledged state only: with a batch on its way there is none.
        if not any(owner is writer for owner, _ in self.on_their_way):
            self.model.snapshot(writer)

    @rule(writer=writers, count=st.integers(1, 3))
    def rows_land(self, writer: Owner, count: int) -> None:
        self.model.show(writer, count)

    @rule(writer=writers)
    def dies(self, writer: Owner) -> None:
        self.model.kill(writer)

    @rule()
    def a_reader_begins_at_the_newest_checkpoint(self) -> None:
        checkpoint = self.model.newest_checkpoint()
        if checkpoint is not None:
            whole = [record.value for record in self.model.taken()]
            rest = [record.value for record in self.model.taken(checkpoint.position)]
            assert rest == whole[checkpoint.src + 1 :]

    @rule()
    def the_log_is_trimmed(self) -> None:
        self.model.trim()

    @rule()
    def a_reader_begins_at_the_start(self) -> None:
        if self.model.beginning == 0:
            self.readers.append(Reader(Taker()))

    @precondition(lambda self: self.readers)
    @rule(data=st.data(), count=st.integers(1, 4), killed=st.booleans())
    def a_reader_reads_on_and_may_be_killed(self, data: st.DataObject, count: int, killed: bool) -> None:
        at = data.draw(st.integers(0, len(self.readers) - 1))
        reader = self.readers[at]
        if reader.taker.offset + 1 < self.model.beginning:
            del self.readers[at]
            return
        self.model.follow(reader, count)
        whole = [record.value for record in self.model.taken()]
        assert reader.taken == whole[: len(reader.taken)]
        if killed:
            self.readers[at] = self.model.restarted(reader)

    @invariant()
    def readers_take_what_the_rules_say(self) -> None:
        self.model.check()

    def teardown(self) -> None:
        """Whatever happened: one more owner answers everything that is left."""
        while self.on_their_way:
            self.model.land(*self.on_their_way.pop(0))
        for writer in self.model.writers:
            self.model.show(writer)
        last = self.model.start()
        self.model.write(last, len(self.model.commands))
        self.model.check()
        assert len(self.model.taken()) == len(self.model.commands)


TestPartition = Partition.TestCase
TestPartition.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
