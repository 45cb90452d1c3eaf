"""Does the auditor see it? A room that is right in every copy, and then one thing in one place is wrong."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import replace

from chat.records import Event, PostMessage, encode
from chat.rooms.chain import content_digest, genesis, link
from chat.rooms.decide import decide
from chat.rooms.state import fold_head
from tests.eventlog import Rows
from tests.faults.auditor import Findings, Kind, RoomLog, audit_archive, audit_clients, audit_reader, audit_tail
from tests.faults.history import (
    Author,
    Disturbance,
    History,
    Outage,
    Outcome,
    Record,
    body_of,
    read_history,
    seen_digest,
    write_history,
)

ROOM = "room-0"
AUTHORS = (Author("w0", ROOM), Author("w1", ROOM))
EACH = 70
KEPT = 20


def events(names: Iterable[tuple[int, int]]) -> list[Event]:
    """What the rules make of these messages, (author, n) each."""
    rows, made = Rows(), []
    for at, (author, n) in enumerate(names, 1_700_000_000_000_000):
        login = AUTHORS[author].login
        body = body_of(login, n)
        try:
            text, b64 = body.decode(), None
        except UnicodeDecodeError:
            text, b64 = "", base64.b64encode(body).decode()
        command = PostMessage(
            v=1,
            room=ROOM,
            sender=login,
            nonce="n" * 22,
            client_id=f"{login}-{n}",
            content_type="text/plain",
            body=text,
            body_b64=b64,
            create=True,
        )
        event = decide(rows, command, at)
        assert isinstance(event, Event)
        rows.head = fold_head(rows.head, event)
        made.append(event)
    return made


def seen(event: Event) -> bytes:
    return seen_digest(
        event.seq,
        event.epoch,
        event.kind,
        event.sender,
        event.msg_no,
        event.client_id or "",
        event.content_type or "",
        event.body_bytes(),
    )


def relinked(made: list[Event]) -> list[Event]:
    """The same events with a chain that fits: what a forger who knows the rules would leave."""
    previous, out = genesis(ROOM, made[0].epoch), []
    for event in made:
        digest = content_digest(
            event.nonce, event.client_id, event.content_type, event.headers, event.body, event.body_b64
        )
        chain = link(
            previous,
            room=event.room,
            seq=event.seq,
            epoch=event.epoch,
            kind=event.kind,
            at=event.at,
            sender=event.sender,
            msg_no=event.msg_no,
            members=event.members,
            opens=event.opens,
            member=event.member,
            digest=digest,
        )
        out.append(replace(event, chain=chain))
        previous = chain
    return out


@dataclass
class Story:
    """A room, told by the log, two stores, a reader and the writers."""

    made: list[Event] = field(default_factory=list)
    log: list[bytes] = field(default_factory=list)
    rows: list[tuple[int, bytes]] = field(default_factory=list)
    tail: list[tuple[int, bytes]] = field(default_factory=list)
    delivered: list[tuple[int, bytes]] = field(default_factory=list)
    history: History = field(default_factory=History)

    def findings(self) -> Findings:
        findings = Findings()
        log = RoomLog(ROOM, findings)
        for value in self.log:
            log.add(value)
        record = Record("r0", ROOM)
        for seq, digest in self.delivered:
            record.add(seq, digest, 0.0)
        audit_clients(self.history, {ROOM: log}, findings)
        audit_archive(log, self.rows, findings)
        audit_tail(log, self.tail, findings, kept=KEPT)
        audit_reader(log, record, findings)
        return findings


def told(made: list[Event]) -> Story:
    """Everybody agrees on these events; each was sent and receipted in turn."""
    story = Story(made, [encode(event) for event in made])
    story.rows = [(event.seq, encode(event)) for event in made]
    story.tail = story.rows[-KEPT:]
    story.delivered = [(event.seq, seen(event)) for event in made]
    history = story.history
    history.authors += AUTHORS
    for at_s, event in enumerate(made):
        author, n = int(event.sender[1:]), int((event.client_id or "").rpartition("-")[2])
        call = history.calls.invoke(author, n, author, at_s)
        history.calls.answer(call, Outcome.NUMBERED, at_s + 0.5, seq=event.seq)
        history.receipted(ROOM, at_s + 0.5)
    return story


@pytest.fixture
def story() -> Story:
    return told(events((author, n) for n in range(EACH) for author in (0, 1)))


def kinds(findings: Findings, where: str) -> set[Kind]:
    return {finding.kind for finding in findings.listed if finding.where == where}


def test_a_right_story_has_no_findings(story: Story) -> None:
    assert not story.findings(), story.findings().listed


def test_a_message_that_nobody_heard_of_again_may_be_there_once_or_not_at_all(story: Story) -> None:
    story.history.calls.invoke(0, EACH, 9, 500.0)
    assert not story.findings()
    story.history.calls.outcome[3] = Outcome.UNKNOWN  # it is in the log, and its sender was never told
    assert not story.findings()


def test_a_resent_message_that_was_receipted_as_a_repeat_is_no_finding(story: Story) -> None:
    call = story.history.calls.invoke(0, 0, 9, 500.0)
    story.history.calls.answer(call, Outcome.REPEATED, 501.0, seq=1)
    assert not story.findings()


# ---------------------------------------------------------------- the log


def test_a_receipted_message_that_everybody_forgot_is_lost(story: Story) -> None:
    whole = story.history
    shorter = told(relinked(story.made[:-1]))
    shorter.history = whole
    assert kinds(shorter.findings(), "log") == {Kind.LOST}


def test_a_receipted_message_that_is_missing_in_the_middle_of_all_copies_is_lost(story: Story) -> None:
    forged = told(events((a, n) for n in range(EACH) for a in (0, 1) if (a, n) != (1, 3)))
    forged.history = story.history
    findings = forged.findings()
    assert Kind.LOST in kinds(findings, "log")
    assert findings.counts[Kind.WRONG_NUMBER] == 2 * EACH - 8


def test_a_record_dropped_from_the_log_is_a_hole_and_breaks_the_chain(story: Story) -> None:
    del story.log[10]
    assert {Kind.HOLE, Kind.CHAIN, Kind.LOST} <= kinds(story.findings(), "log")


def test_a_record_that_stands_twice_in_the_log_is_found(story: Story) -> None:
    story.log.insert(11, story.log[10])
    assert Kind.DOUBLED in kinds(story.findings(), "log")


def test_a_message_that_was_numbered_twice_is_found(story: Story) -> None:
    names = [(a, n) for n in range(EACH) for a in (0, 1)]
    forged = told(events([*names, (0, 5)]))
    forged.history = story.history
    assert Kind.DOUBLED in kinds(forged.findings(), "log")


def test_two_records_that_changed_places_in_the_log_are_found(story: Story) -> None:
    story.log[10], story.log[11] = story.log[11], story.log[10]
    assert {Kind.HOLE, Kind.REORDERED, Kind.CHAIN} <= kinds(story.findings(), "log")


def test_a_flipped_byte_in_the_log_is_found(story: Story) -> None:
    story.log[12] = story.log[12].replace(b"w0 6 once", b"w0 6 0nce")
    assert {Kind.ALTERED, Kind.CHAIN} <= kinds(story.findings(), "log")


def test_a_forged_body_whose_chain_fits_is_found(story: Story) -> None:
    made = [replace(event, body="forged") if event.seq == 13 else event for event in story.made]
    forged = told(relinked(made))
    assert kinds(forged.findings(), "log") == {Kind.ALTERED}


def test_a_message_that_nobody_sent_is_found(story: Story) -> None:
    calls = story.history.calls
    calls.n[7] = 9_999  # somebody else's call: message 3 of w1 was never sent, 9999 was and is not there
    findings = story.findings()
    assert {Kind.FOREIGN, Kind.LOST} <= kinds(findings, "log")


def test_bytes_that_are_no_event_are_found(story: Story) -> None:
    story.log[20] = b"{"
    assert Kind.UNREADABLE in kinds(story.findings(), "log")


# ---------------------------------------------------------------- what writers were told


def test_a_receipt_with_a_wrong_number_is_found(story: Story) -> None:
    story.history.calls.seq[30] += 1
    assert Kind.WRONG_NUMBER in kinds(story.findings(), "receipts")


def test_a_second_receipt_with_another_number_is_found(story: Story) -> None:
    call = story.history.calls.invoke(0, 0, 9, 500.0)
    story.history.calls.answer(call, Outcome.REPEATED, 501.0, seq=2)
    assert kinds(story.findings(), "receipts") == {Kind.WRONG_NUMBER}


def test_frames_of_one_connection_that_changed_their_order_are_found() -> None:
    swapped = told(events([(0, 0), (0, 2), (0, 1), (0, 3)]))
    calls = swapped.history.calls
    in_frame_order = sorted(range(4), key=lambda call: calls.n[call])
    told_seqs = [calls.seq[call] for call in in_frame_order]
    for call, seq in enumerate(told_seqs):
        calls.n[call], calls.seq[call], calls.invoked_s[call], calls.answered_s[call] = call, seq, 1.0 + call / 10, 9.0
    assert kinds(swapped.findings(), "receipts") == {Kind.REORDERED}


def test_a_number_below_one_that_was_receipted_before_it_was_sent_is_found(story: Story) -> None:
    calls = story.history.calls
    calls.invoked_s[4] = calls.invoked_s[20]  # seq 5 was sent long after seq 6, of somebody else, was receipted
    calls.answered_s[4] = calls.answered_s[20]
    calls.line[4] = 99
    assert kinds(story.findings(), "log") == {Kind.REORDERED}


# ---------------------------------------------------------------- stores and readers

Plant = Callable[[list[tuple[int, bytes]]], None]


def _drop(entries: list[tuple[int, bytes]]) -> None:
    del entries[-5]


def _drop_the_last(entries: list[tuple[int, bytes]]) -> None:
    entries.pop()


def _double(entries: list[tuple[int, bytes]]) -> None:
    entries.insert(-5, entries[-6])


def _swap(entries: list[tuple[int, bytes]]) -> None:
    entries[-5], entries[-6] = entries[-6], entries[-5]


def _swap_what_they_say(entries: list[tuple[int, bytes]]) -> None:
    (a, first), (b, second) = entries[-5:-3]
    entries[-5:-3] = [(a, second), (b, first)]


def _flip(entries: list[tuple[int, bytes]]) -> None:
    seq, value = entries[-5]
    entries[-5] = (seq, bytes((value[0] ^ 1,)) + value[1:])


def _add(entries: list[tuple[int, bytes]]) -> None:
    seq, value = entries[-1]
    entries.append((seq + 1, value))


PLANTS: list[tuple[Plant, Kind]] = [
    (_drop_the_last, Kind.LOST),
    (_double, Kind.DOUBLED),
    (_swap_what_they_say, Kind.ALTERED),
    (_flip, Kind.ALTERED),
    (_add, Kind.FOREIGN),
]


@pytest.mark.parametrize(
    ("copy", "where"), [("rows", "cassandra"), ("tail", "redis"), ("delivered", "reader r0")], ids=lambda v: v
)
@pytest.mark.parametrize(("plant", "kind"), PLANTS, ids=[plant.__name__ for plant, _ in PLANTS])
def test_one_wrong_thing_in_one_copy_is_found_there(
    story: Story, copy: str, where: str, plant: Plant, kind: Kind
) -> None:
    plant(getattr(story, copy))
    findings = story.findings()
    assert kind in kinds(findings, where)
    assert {finding.where for finding in findings.listed} == {where}


@pytest.mark.parametrize(
    ("copy", "where", "kind"),
    [
        ("rows", "cassandra", Kind.LOST),
        ("tail", "redis", Kind.HOLE),
        ("delivered", "reader r0", Kind.LOST),
    ],
)
def test_an_event_that_is_missing_in_the_middle_of_a_copy_is_found(
    story: Story, copy: str, where: str, kind: Kind
) -> None:
    _drop(getattr(story, copy))
    assert kinds(story.findings(), where) == {kind}


@pytest.mark.parametrize(("copy", "where"), [("rows", "cassandra"), ("tail", "redis"), ("delivered", "reader r0")])
def test_two_events_in_the_wrong_order_in_a_copy_are_found(story: Story, copy: str, where: str) -> None:
    _swap(getattr(story, copy))
    assert Kind.REORDERED in kinds(story.findings(), where)


def test_an_empty_tail_and_one_that_is_too_long_are_found(story: Story) -> None:
    story.tail = []
    assert kinds(story.findings(), "redis") == {Kind.LOST}
    story.tail = story.rows[-KEPT - 1 :]
    assert kinds(story.findings(), "redis") == {Kind.FOREIGN}


# ---------------------------------------------------------------- the history as a file


def test_a_history_comes_back_from_its_file_as_it_was(story: Story, tmp_path: Path) -> None:
    history = story.history
    refused = history.calls.invoke(1, EACH, 9, 500.0)
    history.calls.answer(refused, Outcome.REFUSED, 500.25, code="unavailable")
    history.calls.invoke(1, EACH, 10, 501.0)
    record = Record("r0", ROOM, lines=[(3, 0)])
    for seq, digest in story.delivered:
        record.add(seq, digest, float(seq))
    history.records.append(record)
    history.disturbances.append(Disturbance("kill -9 gateway", "gateway-2", 1.0, 2.0, 3.0))
    history.outages.append(Outage("r0", 1.0, 1.5))
    history.notes.append("a note")
    write_history(history, tmp_path / "history.gz")
    back = read_history(tmp_path / "history.gz")
    back.began = history.began
    assert back == history
