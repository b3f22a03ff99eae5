"""A server of MRD streams: connections, their limits, and who may open one."""

from __future__ import annotations

import hmac
import ipaddress
import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from mrigen.errors import UsageError, one_line
from mrigen.serving import messages
from mrigen.serving.messages import Wire
from mrigen.serving.session import Key, Reconstructor, Session, images

NAMES = {"", "default", "default.xml", "mrigen"}
LEAST_TOKEN = 16
REFUSAL_SECONDS = 1.0
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Limits:
    """What clients may take.

    Attributes:
        connections: that are open at once; further ones are turned away with a line.
        timeout: seconds within which a message must have come, or have been taken, as a whole.
        memory: bytes of samples and coil maps that a connection keeps.
    """

    connections: int = 4
    timeout: float = 60.0
    memory: int = 1 << 30


class Server:
    """A server on one address.

    Args:
        reconstructor: what makes the images.
        host: address to listen on.
        port: its port; 0 for any that is free.
        token: what clients must say first in their configuration; None to let everybody in.
        limits: what clients may take.
        log: called with a line for every measurement and every fault.

    Raises:
        UsageError: an address that others can reach without a token, or that cannot be had.
    """

    def __init__(
        self,
        reconstructor: Reconstructor,
        host: str = "127.0.0.1",
        port: int = 9002,
        *,
        token: str | None = None,
        limits: Limits | None = None,
        log: Callable[[str], None] = print,
    ) -> None:
        if token is None and not _is_loopback(host):
            raise UsageError(
                f"--host {host}: other machines can reach it; give --token-file, or listen on 127.0.0.1"
            )
        if token is not None and (len(token) < LEAST_TOKEN or len(token.split()) != 1):
            raise UsageError(
                f"the token must be one word of at least {LEAST_TOKEN} characters; "
                "make one with `openssl rand -hex 16`"
            )
        self._reconstructor, self._token = reconstructor, token
        self._limits, self._log = limits or Limits(), log
        self._free = threading.Semaphore(self._limits.connections)
        self._stopped = threading.Event()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._listener = socket.create_server((host, port), family=family)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(
                f"--host {host} --port {port}: cannot listen there ({reason}); give another port or address"
            ) from error
        self._listener.settimeout(POLL_SECONDS)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    def serve(self) -> None:
        """Answer connections until ``stop``."""
        with self._listener:
            while not self._stopped.is_set():
                try:
                    connection, address = self._listener.accept()
                except TimeoutError:
                    continue
                except OSError as error:  # a client that was gone before it was accepted, or no more files
                    self._log(f"a connection failed: {one_line(str(error))}")
                    self._stopped.wait(POLL_SECONDS)
                    continue
                client = f"{address[0]}:{address[1]}"
                if self._free.acquire(blocking=False):
                    threading.Thread(target=self._answer, args=(connection, client), daemon=True).start()
                else:
                    most = self._limits.connections
                    _refuse(connection, f"all {most} connections are in use; try again later")
                    self._log(f"{client}: turned away, all {most} connections are in use")

    def stop(self) -> None:
        """Accept no further connection and end ``serve``; those that are open end with the process."""
        self._stopped.set()

    def _answer(self, connection: socket.socket, client: str) -> None:
        """A connection from its first message to its last."""
        wire = Wire(connection, self._limits.timeout)
        try:
            with connection:
                try:
                    count = self._converse(wire, client)
                    wire.send_close()
                    self._log(f"{client}: {count} images")
                except UsageError as error:
                    self._log(f"{client}: {one_line(str(error))}")
                    with suppress(OSError):
                        wire.send_text(f"mrigen: {error}")
                        wire.send_close()
                    _drain(connection)
        except TimeoutError:
            self._log(f"{client}: sent or took no whole message in {self._limits.timeout:g} s; closed")
        except OSError as error:
            self._log(f"{client}: the connection broke ({one_line(error.strerror or str(error))})")
        except Exception as error:  # noqa: BLE001  a fault of ours must neither end the server nor pass unseen
            self._log(f"{client}: {type(error).__name__}: {one_line(str(error))}")
        finally:
            self._free.release()

    def _converse(self, wire: Wire, client: str) -> int:
        """Messages until the client closes; the number of images sent."""
        session = Session(self._reconstructor, self._limits.memory)
        known, total = self._token is None, 0

        def send(keys: list[Key]) -> int:
            count = 0
            for made in images(session, keys):
                if isinstance(made, UsageError):
                    self._log(f"{client}: {one_line(str(made))}")
                    wire.send_text(f"mrigen: {made}")
                else:
                    wire.send_image(*made)
                    count += 1
            return count

        while True:
            number, content = wire.receive(session.room)
            if number in {messages.CONFIG_FILE, messages.CONFIG_TEXT}:
                known = self._configure(content) or known
            elif not known:
                raise UsageError("this server wants a token: send a configuration `token=...` first")
            elif number == messages.HEADER:
                session.start(content)
            elif number == messages.ACQUISITION:
                total += send(session.add(content))
            elif number == messages.CLOSE:
                return total + send(session.rest())

    def _configure(self, text: str) -> bool:
        """Read a configuration; whether it has the token.

        Raises:
            UsageError: another token, or anything else than the token.
        """
        values = configuration(text)
        name, token = values.pop("config", ""), values.pop("token", None)
        if values or name not in NAMES:
            unknown = next(iter(values), name) if self._token is None else "another word"
            raise UsageError(
                f"the configuration has {unknown[:80]!r}, which is unknown; send `default`, and "
                "token=... where the server wants one"
            )
        if token is None or self._token is None:
            return False
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            raise UsageError("the token is not this server's")
        return True


def configuration(text: str) -> dict[str, str]:
    """A configuration: ``NAME KEY=VALUE ...``, or JSON with ``parameters`` as MRD clients send it.

    Raises:
        UsageError: neither.
    """
    if not text.lstrip().startswith("{"):
        words = [word.partition("=") for word in text.split()]
        return {key if equals else "config": value if equals else key for key, equals, value in words}
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError("the configuration is not readable JSON; send `default`") from error
    values = tree.get("parameters", {})
    if not isinstance(values, dict):
        raise UsageError("the configuration's `parameters` are no object; send `default`")
    return {str(key): str(value) for key, value in values.items()}


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refuse(connection: socket.socket, text: str) -> None:
    """Turn a client away; what it sends meanwhile is not read."""
    with connection, suppress(OSError):
        wire = Wire(connection, REFUSAL_SECONDS)
        wire.send_text(f"mrigen: {text}")
        wire.send_close()


def _drain(connection: socket.socket) -> None:
    """Let a client read the last line: closing beside unread data would reset the connection.

    What it still sends is dropped for a second.
    """
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(REFUSAL_SECONDS)
        for _ in range(64):
            if not connection.recv(messages.AT_ONCE):
                break
