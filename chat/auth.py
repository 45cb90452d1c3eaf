"""Who a connection is: the seam between CONNECT and the user id that every rule reads.

`open` identity believes the `login` header; it exists for development and is served on loopback only unless allowed
explicitly (chat.settings checks that). Tokens take the same seam.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Protocol

from chat.errors import Code, Refused
from chat.ids import UserId, is_id

GUEST_BYTES = 5


@dataclass(frozen=True, slots=True)
class Credentials:
    """What somebody shows: STOMP's CONNECT headers, or their counterparts in HTTP."""

    login: str | None = None
    passcode: str | None = None
    authorization: str | None = None

    def __repr__(self) -> str:
        """No secret ever stands in a log."""
        return f"Credentials(login={self.login!r})"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who it is."""

    user: UserId


class Authenticator(Protocol):
    """Believes or refuses."""

    async def authenticate(self, credentials: Credentials) -> Identity:
        """Who shows these credentials.

        Raises:
            Refused: `login_refused`, with a message that names no secret.
        """


class OpenIdentity:
    """Everybody is who they say; somebody who says nothing is a guest."""

    async def authenticate(self, credentials: Credentials) -> Identity:
        """The `login` as user id, or a new guest's."""
        login = credentials.login
        if not login:
            return Identity(UserId(f"guest-{secrets.token_hex(GUEST_BYTES)}"))
        if not is_id(login):
            raise Refused(Code.LOGIN_REFUSED, "login is a user id: 1-128 characters of A-Z a-z 0-9 . _ ~ : @ + -")
        return Identity(UserId(login))
