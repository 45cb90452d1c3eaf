"""The bare loop beside the gateway: the least an aiohttp server has to do to fan a STOMP message out.

It accepts, reads CONNECT and SUBSCRIBE only as far as "this one listens", and writes one prebuilt frame per message and
connection, straight to the transport. No room, no log, no order, no bound: what it costs cannot be saved.
"""

from __future__ import annotations

import sys

from aiohttp import WSMsgType, web


def frame(seq: int, body: bytes) -> bytes:
    """A MESSAGE about as large as Roomlog's, in a WebSocket frame."""
    head = (
        b"MESSAGE\nsubscription:0\ndestination:/room/bench\nmessage-id:bench/%d\nx-room:bench\nx-seq:%d\n"
        b"x-epoch:660eb447f7629\nx-kind:message\nx-sender:writer\nx-time:2026-11-23T05\\c57\\c23.049001Z\nx-msg-no:%d\n"
        b"content-length:%d\n\n" % (seq, seq, seq, len(body))
    )
    payload = head + body + b"\0"
    return bytes((0x81, 126)) + len(payload).to_bytes(2, "big") + payload


async def serve(request: web.Request) -> web.WebSocketResponse:
    """One client: a listener, whose SENDs everybody gets."""
    listeners: set = request.app["listeners"]
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    transport = request.transport  # aiohttp forgets it when the client goes
    listeners.add(transport)
    try:
        async for message in socket:
            if message.type is not WSMsgType.TEXT or not message.data.startswith("SEND"):
                continue
            request.app["seq"][0] += 1
            data = frame(request.app["seq"][0], message.data.partition("\n\n")[2].rstrip("\0").encode())
            for listener in listeners:
                listener.write(data)
    finally:
        listeners.discard(transport)
    return socket


def main(port: int) -> None:
    app = web.Application()
    app["listeners"] = set()
    app["seq"] = [0]
    app.router.add_get("/ws", serve)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


if __name__ == "__main__":
    main(int(sys.argv[1]))
