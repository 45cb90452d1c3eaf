"""The hash chain of a room: any copy of its history can be verified event by event.

``chain[n] = H(chain[n-1], facts[n], digest(content[n]))``. Facts are what must never change (room, epoch, numbers,
kind, time, people); content is what a person wrote. The content enters only as a digest salted with the
nonce that is stored beside it, so erasing content and nonce leaves the chain valid and the text not guessable.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from chat.records import Event, Membership, Opens

CHAIN_BYTES = 32

_encode = msgspec.json.Encoder().encode


def genesis(room: str, epoch: str) -> str:
    """What the first event of a room is chained to."""
    return blake2b(_encode((room, epoch)), digest_size=CHAIN_BYTES).hexdigest()


def content_digest(
    nonce: str | None,
    client_id: str | None,
    content_type: str | None,
    headers: dict[str, str],
    body: str,
    body_b64: str | None,
) -> bytes:
    """Salted digest of what a person wrote."""
    content = _encode((nonce, client_id, content_type, headers, body, body_b64))
    return blake2b(content, digest_size=CHAIN_BYTES).digest()


def link(
    previous: str,
    *,
    room: str,
    seq: int,
    epoch: str,
    kind: str,
    at: int,
    sender: str,
    msg_no: int,
    members: int,
    opens: Opens | None,
    member: Membership | None,
    digest: bytes,
) -> str:
    """The chain value of an event after `previous`."""
    facts = _encode((previous, room, seq, epoch, kind, at, sender, msg_no, members, opens, member))
    return blake2b(facts + digest, digest_size=CHAIN_BYTES).hexdigest()


def verify(previous: str, event: Event) -> bool:
    """True when `event` follows `previous` unaltered."""
    digest = content_digest(event.nonce, event.client_id, event.content_type, event.headers, event.body, event.body_b64)
    return event.chain == link(
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
