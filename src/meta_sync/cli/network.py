"""Listening sockets made before anything else starts, and the one question asked of a server that is starting."""

from __future__ import annotations

import asyncio
import errno
import http.client
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from meta_sync.core.errors import StartError

__all__ = ["address_of", "listening_socket", "wait_until_serving"]

_BACKLOG = 2048
_ASK_SECONDS = 2.0


@contextmanager
def listening_socket(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens; port 0 takes a free one. Whoever connects early waits until somebody accepts.

    Raises
    ------
    StartError
        The port is in use or not allowed, or the host is no address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise StartError(
            f"{host} is not an address of this machine. Choose another one with --host."
        ) from error
    with socket.socket(family, kind, protocol) as listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            raise StartError(_why(error, host, port)) from error
        yield listener


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is in use by another program. Choose another one with --port or META_SYNC_PORT."
    if error.errno in {errno.EACCES, errno.EPERM}:
        return f"Port {port} may not be opened by this user. Choose one above 1023 with --port or META_SYNC_PORT."
    return f"{host} is not an address of this machine ({error.strerror}). Choose another one with --host."


def address_of(listener: socket.socket) -> str:
    """The address a browser on this machine would use."""
    host, port = listener.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared with, not bound to
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def wait_until_serving(
    url: str, path: str, *, seconds: float, given_up: Callable[[], bool], accept: Callable[[int], bool]
) -> bool:
    """Ask a server of ours until it gives an answer of an accepted status.

    Parameters
    ----------
    url
        ``http://host:port``.
    given_up
        Whether the server's process has ended meanwhile.
    accept
        Which statuses will do.

    Returns
    -------
    bool
        Whether it answered in time.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline and not given_up():
        status = await asyncio.to_thread(_status, url.removeprefix("http://"), path)
        if status is not None and accept(status):
            return True
        await asyncio.sleep(0.1)
    return False


def _status(address: str, path: str) -> int | None:
    connection = http.client.HTTPConnection(address, timeout=_ASK_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
