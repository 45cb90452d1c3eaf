"""docs/protocol.md, sections 3 and 4, sentence by sentence, as a client sees it."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.conformance.rooms import fill, numbers, post, subscribe, traffic
from tests.conformance.wire import connected, frame

ERRORS = "/user/queue/errors"


# ---------------------------------------------------------------- numbers and MESSAGE


async def test_every_event_has_a_number_one_higher_than_the_one_before(port: int, room: str) -> None:
    async with connected(port) as peer:
        await subscribe(peer, room)
        for n in range(1, 6):
            assert (await post(peer, room, str(n))).seq == n


async def test_a_message_carries_the_headers_of_the_contract(port: int, room: str) -> None:
    async with connected(port) as peer:
        await subscribe(peer, room)
        await peer.send(
            "SEND", "hi", destination=f"/room/{room}", content_type="text/plain", x_client_id="c", of_mine="m"
        )
        (message,) = await peer.messages(1)
        epoch, at = message.headers.pop("x-epoch"), message.headers.pop("x-time")
        assert re.fullmatch(r"[0-9a-f]+", epoch)
        assert epoch != "0"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", at)
        opened = {"x-user": "mina", "x-role": "owner"}  # the first event opens the room
        assert message.headers == opened | {
            "subscription": "s",
            "destination": f"/room/{room}",
            "message-id": f"{room}/1",
            "content-type": "text/plain",
            "content-length": "2",
            "x-room": room,
            "x-seq": "1",
            "x-kind": "message",
            "x-sender": "mina",
            "x-msg-no": "1",
            "x-client-id": "c",
            "of-mine": "m",
        }


async def test_joining_and_leaving_are_events_with_numbers_that_messages_do_not_count(port: int, room: str) -> None:
    async with connected(port, "mina") as mina, connected(port, "jun") as jun:
        await subscribe(mina, room)
        await post(mina, room)
        for action in ("join", "join", "leave"):
            await jun.send("SEND", destination=f"/room/{room}/{action}", receipt=action)
            await jun.receipt(action)
        last = await post(mina, room, "last")
        assert last.seq == 4, "a repeated join is no event"
        await post(mina, room, "after")
        async with connected(port, "late") as late:
            await subscribe(late, room, x_from_seq="1")
            events = [
                (m.headers["x-kind"], m.headers["x-sender"], m.headers["x-msg-no"]) for m in await late.messages(5)
            ]
        assert events == [
            ("message", "mina", "1"),
            ("member.joined", "jun", "1"),
            ("member.left", "jun", "1"),
            ("message", "mina", "2"),
            ("message", "mina", "3"),
        ]


async def test_x_time_never_goes_back(port: int, room: str) -> None:
    await fill(port, room, 100)
    async with connected(port) as peer:
        await subscribe(peer, room, x_from_seq="1")
        times = [message.headers["x-time"] for message in await peer.messages(100)]
    assert times == sorted(set(times))


# ---------------------------------------------------------------- receipts


async def test_the_receipt_of_a_send_carries_its_number(port: int, room: str) -> None:
    async with connected(port) as peer:
        receipt = await post(peer, room)
        assert receipt.headers["x-room"] == room
        assert receipt.headers["x-seq"] == "1"
        assert receipt.headers["message-id"] == f"{room}/1"
        assert "x-duplicate" not in receipt.headers
        async with connected(port) as reader:
            await subscribe(reader, room, x_from_seq="1")
            (message,) = await reader.messages(1)
            assert message.headers["x-epoch"] == receipt.headers["x-epoch"]


async def test_the_receipt_of_a_subscribe_says_where_the_room_stands(port: int, room: str) -> None:
    async with connected(port) as peer:
        empty = await subscribe(peer, room, "a")
        assert (empty.headers["x-head-seq"], empty.headers["x-first-seq"]) == ("0", "1")
        await fill(port, room, 3)
        await peer.messages(3)
        filled = await subscribe(peer, room, "b")
        assert (filled.headers["x-head-seq"], filled.headers["x-first-seq"]) == ("3", "1")


async def test_one_who_subscribes_and_sends_at_once_sees_the_own_message(port: int, room: str) -> None:
    async with connected(port) as peer:
        for n in range(1, 21):
            sid, target = str(n), f"/room/{room}-{n}"
            await peer.text(
                frame("SUBSCRIBE", {"id": sid, "destination": target})
                + frame("SEND", {"destination": target, "receipt": sid}, "mine")
            )
        found = [await peer.next() for _ in range(40)]
        mine = {one.headers["subscription"] for one in found if one.command == "MESSAGE"}
        assert mine == {str(n) for n in range(1, 21)}


async def test_pipelined_sends_keep_their_order(port: int, room: str) -> None:
    async with connected(port) as peer:
        await subscribe(peer, room)
        for start in range(0, 500, 50):
            await peer.text(
                b"".join(frame("SEND", {"destination": f"/room/{room}"}, str(n)) for n in range(start, start + 50))
            )
        messages = await peer.messages(500)
        assert [message.body for message in messages] == [b"%d" % n for n in range(500)]
        assert numbers(messages) == list(range(1, 501))


async def test_a_message_and_its_receipt_come_in_the_order_of_the_log(port: int, room: str) -> None:
    async with connected(port) as peer:
        await subscribe(peer, room)
        data = [frame("SEND", {"destination": f"/room/{room}", "receipt": str(n)}, str(n)) for n in range(1, 51)]
        await peer.text(b"".join(data))
        found = [await peer.next() for _ in range(100)]
        for command in ("MESSAGE", "RECEIPT"):
            assert numbers([one for one in found if one.command == command]) == list(range(1, 51))


async def test_a_send_read_before_the_connection_dropped_is_still_carried_out(port: int, room: str) -> None:
    async with connected(port, "reader") as reader:
        await subscribe(reader, room)
        async with connected(port, "writer") as writer:
            await writer.text(b"".join(frame("SEND", {"destination": f"/room/{room}"}, str(n)) for n in range(20)))
            await writer.send("BEGIN", transaction="t", receipt="read")
            await writer.receipt("read")  # so all before it was read
            writer.abort()
        assert [message.body for message in await reader.messages(20)] == [b"%d" % n for n in range(20)]


async def test_the_receipt_of_disconnect_comes_after_all_others_and_before_the_close(port: int, room: str) -> None:
    async with connected(port) as peer:
        sends = [frame("SEND", {"destination": f"/room/{room}", "receipt": str(n)}, "x") for n in range(30)]
        await peer.text(b"".join([*sends, frame("DISCONNECT", {"receipt": "bye"})]))
        receipts = [(await peer.expect("RECEIPT")).headers["receipt-id"] for _ in range(31)]
        assert receipts[-1] == "bye"
        assert sorted(receipts[:-1], key=int) == [str(n) for n in range(30)]
        assert await peer.closed() == 1000


# ---------------------------------------------------------------- repeats


async def test_a_repeat_makes_nothing_and_gets_the_first_ones_number(port: int, port2: int, room: str) -> None:
    async with connected(port) as peer:
        await subscribe(peer, room)
        first = await post(peer, room, "one", x_client_id="c-1")
        await post(peer, room, "two", x_client_id="c-2")
        again = await post(peer, room, "one", x_client_id="c-1")
        assert (again.seq, again.headers["x-duplicate"]) == (first.seq, "true")
        async with connected(port2) as elsewhere:
            there = await post(elsewhere, room, "one", x_client_id="c-1")
            assert (there.seq, there.headers["x-duplicate"]) == (first.seq, "true")
        assert (await post(peer, room, "three")).seq == 3


async def test_a_client_id_belongs_to_its_user_and_room(port: int, room: str) -> None:
    async with connected(port, "mina") as mina, connected(port, "jun") as jun:
        assert (await post(mina, room, x_client_id="c")).seq == 1
        assert (await post(jun, room, x_client_id="c")).seq == 2
        assert (await post(mina, f"{room}-b", x_client_id="c")).seq == 1


async def test_the_last_256_of_a_user_are_remembered(port: int, room: str) -> None:
    async with connected(port) as peer:
        for start in range(1, 257, 64):
            data = [
                frame("SEND", {"destination": f"/room/{room}", "x-client-id": str(n), "receipt": str(n)}, "x")
                for n in range(start, start + 64)
            ]
            await peer.text(b"".join(data))
            await peer.receipt(str(start + 63))
        assert (await post(peer, room, "again", x_client_id="1")).headers["x-duplicate"] == "true"


async def test_pipelined_repeats_of_one_id_stand_once(port: int, room: str) -> None:
    async with connected(port) as peer:
        await subscribe(peer, room)
        headers = {"destination": f"/room/{room}", "x-client-id": "same"}
        await peer.text(b"".join(frame("SEND", {**headers, "receipt": str(n)}, "x") for n in range(10)))
        await peer.receipt("9")
        assert (await post(peer, room, "last")).seq == 2


# ---------------------------------------------------------------- resume


@pytest.mark.parametrize(
    ("header", "value", "first"),
    [
        ("x-from-seq", "1", 1),
        ("x-from-seq", "0", 1),
        ("x-from-seq", "250", 250),
        ("x-after-seq", "0", 1),
        ("x-after-seq", "299", 300),
        ("x-last", "10", 291),
        ("x-last", "1000", 1),
        ("x-last", "0", 301),
    ],
)
async def test_a_position_is_joined_to_live_without_hole_or_repeat(
    port: int, room: str, header: str, value: str, first: int
) -> None:
    await fill(port, room, 300)
    async with connected(port) as peer:
        await peer.send("SUBSCRIBE", id="s", destination=f"/room/{room}", **{header: value})
        async with connected(port, "other") as other:
            await post(other, room, "live")
        messages = await peer.messages(302 - first)
        assert numbers(messages) == list(range(first, 302))
        assert messages[-1].body == b"live"


async def test_resuming_under_load_joins_without_hole_or_repeat(port: int, room: str) -> None:
    await fill(port, room, 200)
    async with traffic(port, room):
        for after in range(0, 200, 20):
            async with connected(port) as peer:
                await peer.send("SUBSCRIBE", id="s", destination=f"/room/{room}", x_after_seq=str(after))
                found = numbers(await peer.messages(260 - after))
                assert found == list(range(after + 1, 261))


async def test_two_subscriptions_of_one_room_each_get_all(port: int, room: str) -> None:
    await fill(port, room, 5)
    async with connected(port) as peer:
        await subscribe(peer, room, "live")
        await peer.send("SUBSCRIBE", id="old", destination=f"/topic/{room}", x_from_seq="1")
        old = await peer.messages(5)
        assert [(m.headers["subscription"], m.headers["destination"]) for m in old] == [("old", f"/topic/{room}")] * 5
        async with connected(port, "other") as other:
            await post(other, room, "new")
        assert {(m.headers["subscription"], m.seq) for m in await peer.messages(2)} == {("live", 6), ("old", 6)}


async def test_a_number_that_is_not_reached_yet_is_waited_for(port: int, room: str) -> None:
    async with connected(port) as peer:
        await subscribe(peer, room, x_from_seq="3")
        await fill(port, room, 4)
        assert numbers(await peer.messages(2)) == [3, 4]


async def test_the_epoch_of_the_room_is_accepted_and_another_one_refused(port: int, room: str) -> None:
    async with connected(port) as peer:
        epoch = (await post(peer, room)).headers["x-epoch"]
        await peer.send("SUBSCRIBE", id="s", destination=f"/room/{room}", x_from_seq="1", x_epoch=epoch)
        assert numbers(await peer.messages(1)) == [1]
        await peer.send("SUBSCRIBE", id="t", destination=f"/room/{room}", x_from_seq="1", x_epoch="1" + epoch)
        await peer.expect("ERROR", error_code="epoch_changed")


async def test_thousands_of_missed_messages_come_in_order(port: int, room: str) -> None:
    async with asyncio.TaskGroup() as fillers:
        for n in range(10):
            fillers.create_task(fill(port, room, 550, f"filler-{n}"))
    async with connected(port) as peer:  # more than a bucket of 5,000 events in Cassandra
        await peer.send("SUBSCRIBE", id="s", destination=f"/room/{room}", x_from_seq="1")
        assert numbers(await peer.messages(5_500)) == list(range(1, 5_501))


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("command", "headers", "code"),
    [
        ("SEND", {"destination": "/nowhere"}, "unknown_destination"),
        ("SEND", {"destination": "/room/{room}/fly"}, "unknown_action"),
        ("SEND", {"destination": "/room/my room"}, "bad_room_id"),
        ("SEND", {"destination": "/room/{room}", "x-seq": "1"}, "reserved_header"),
        ("SEND", {"destination": "/room/{room}", "x-client-id": "c" * 129}, "bad_client_id"),
        ("SUBSCRIBE", {"id": "t", "destination": "/nowhere"}, "unknown_destination"),
        ("SUBSCRIBE", {"id": "t", "destination": "/room/{room}", "x-from-seq": "x"}, "bad_position"),
        ("SUBSCRIBE", {"id": "t", "destination": "/room/{room}", "x-epoch": "abc"}, "epoch_changed"),
    ],
)
async def test_a_refusal_comes_softly_to_who_listens_for_it(
    port: int, room: str, command: str, headers: dict[str, str], code: str
) -> None:
    async with connected(port) as peer:
        await peer.send("SUBSCRIBE", id="e", destination=ERRORS, receipt="listening")
        await peer.receipt("listening")
        wanted = {name: value.replace("{room}", room) for name, value in headers.items()}
        await peer.text(frame(command, {**wanted, "receipt": "r"}))
        refusal = await peer.expect("MESSAGE", subscription="e", destination=ERRORS, error_code=code, receipt_id="r")
        assert refusal.headers["x-destination"] == wanted["destination"]
        assert refusal.headers["message"]
        assert refusal.headers["message-id"]
        await subscribe(peer, room, "t")  # its id is free, and the connection lives
        assert (await post(peer, room)).seq == 1


async def test_a_room_is_made_once_and_its_maker_hears_so(port: int, room: str) -> None:
    async with connected(port) as peer:
        await peer.send("SUBSCRIBE", id="e", destination=ERRORS)
        await peer.send("SUBSCRIBE", id="a", destination="/user/queue/replies")
        await peer.send("SEND", f'{{"room":"{room}","name":"로비"}}', destination="/rooms", receipt="r")
        found = [await peer.next(), await peer.next()]
        receipt = next(one for one in found if one.command == "RECEIPT")
        reply = next(one for one in found if one.command == "MESSAGE")
        assert receipt.headers["x-room"] == room
        assert reply.headers["destination"] == "/user/queue/replies"
        assert room.encode() in reply.body
        await peer.send("SEND", f'{{"room":"{room}"}}', destination="/rooms", receipt="again")
        await peer.expect("MESSAGE", error_code="room_exists", receipt_id="again")


# ---------------------------------------------------------------- two gateways


async def test_clients_of_two_gateways_see_one_order(port: int, port2: int, room: str) -> None:
    async with connected(port, "one") as one, connected(port2, "two") as two:
        await subscribe(one, room)
        await subscribe(two, room)
        for peer in (one, two):
            await peer.text(b"".join(frame("SEND", {"destination": f"/room/{room}"}, str(n)) for n in range(200)))
        seen_by_one, seen_by_two = await one.messages(400), await two.messages(400)
        assert numbers(seen_by_one) == numbers(seen_by_two) == list(range(1, 401))
        assert [m.body for m in seen_by_one] == [m.body for m in seen_by_two]
        for sender in ("one", "two"):
            sent = [m.body for m in seen_by_one if m.headers["x-sender"] == sender]
            assert sent == [b"%d" % n for n in range(200)]


async def test_a_client_resumes_on_another_gateway(port: int, port2: int, room: str) -> None:
    async with connected(port) as here:
        await subscribe(here, room)
        await fill(port2, room, 20)
        last = (await here.messages(10))[-1].seq
        here.abort()
    async with connected(port2) as there:
        await there.send("SUBSCRIBE", id="s", destination=f"/room/{room}", x_after_seq=str(last))
        assert numbers(await there.messages(10)) == list(range(11, 21))
