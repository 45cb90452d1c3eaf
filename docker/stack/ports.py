"""Are the ports free? Asked before anything starts, so that the answer names the port and what moves it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping

from stack.errors import StackError


def check(wanted: Mapping[int, tuple[str, str]], host: str) -> None:
    """`StackError` for the first port that is taken; `wanted` is what `plan.ports` returned."""
    for port, (name, variable) in wanted.items():
        problem = _problem("127.0.0.1" if variable == "ROOMLOG_ENGINE_PORT_BASE" else host, port)
        if problem:
            raise StackError(f"port {port} ({name}) {problem}; set {variable} to other ports, or end what uses it")


def _problem(host: str, port: int) -> str | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the servers do: a connection of an earlier process that lingers is no reason to refuse.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            return "is taken" if error.errno == errno.EADDRINUSE else f"cannot be bound ({error.strerror})"
    return None
