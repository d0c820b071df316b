"""A server that is far away: a proxy through which every answer comes later, and no connection carries much.

It looks at no byte, so that hundreds of connections cost little of what is measured beside it::

    with Distance(server.endpoint, seconds=0.08, rate=16 * 2**20) as far:
        ... use far.endpoint ...
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

HELD_MAX = 4 * 2**20
"""Bytes of one connection that may be on their way; then no more are read."""
AT_ONCE_SECONDS = 0.0005
"""What would arrive sooner arrives at once: a timer would be later."""


class Distance:
    """What a server sends arrives ``seconds`` later. In each direction a connection carries ``rate`` bytes a second
    (0: as many as come). Connections are made at once. A context manager; it runs in a thread of its own.
    """

    def __init__(self, upstream: str, *, seconds: float, rate: float = 0.0) -> None:
        address = urlsplit(upstream)
        self._upstream = (address.hostname or "127.0.0.1", address.port or 80)
        self._seconds = seconds
        self._rate = rate
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="distance", daemon=True)
        self._open: set[asyncio.Transport] = set()
        self.endpoint = ""

    def __enter__(self) -> Distance:
        self._server = self._loop.run_until_complete(
            self._loop.create_server(lambda: _End(self._arrive), "127.0.0.1", 0, backlog=1024)
        )
        port = self._server.sockets[0].getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        self._thread.start()
        return self

    def _run(self) -> None:
        self._loop.run_forever()
        self._server.close()
        for transport in self._open:
            transport.abort()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _arrive(self, client: _End) -> None:
        """A client has connected: connect for it, and join both ends."""
        self._open.add(client.transport)
        client.joining = self._loop.create_task(self._join(client))

    async def _join(self, client: _End) -> None:
        server = _End(lambda _: None)
        try:
            await self._loop.create_connection(lambda: server, *self._upstream)
        except OSError:
            client.transport.abort()
            return
        self._open.add(server.transport)
        for end, other, seconds in ((client, server, 0.0), (server, client, self._seconds)):
            end.join(_Way(self._loop, end.transport, other.transport, seconds, self._rate))


class _Way:
    """One direction of a connection: what comes in at one end goes out at the other, in order, when it is time."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        near: asyncio.Transport,
        far: asyncio.Transport,
        seconds: float,
        rate: float,
    ) -> None:
        self._loop, self._near, self._far = loop, near, far
        self._seconds, self._rate = seconds, rate
        self._free = 0.0  # when everything before has passed
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._held = 0

    def carry(self, data: bytes) -> None:
        """Let it arrive: after the latency, and behind all that is on its way. An empty one is the end."""
        now = self._loop.time()
        self._free = max(self._free, now + self._seconds) + (len(data) / self._rate if self._rate else 0.0)
        if not self._under_way and data and self._free - now < AT_ONCE_SECONDS:
            self._far.write(data)
            return
        self._under_way.append((self._free, data))
        self._held += len(data)
        if self._held > HELD_MAX:
            self._near.pause_reading()
        if len(self._under_way) == 1:
            self._loop.call_at(self._free, self._deliver)

    def _deliver(self) -> None:
        due = self._loop.time() + AT_ONCE_SECONDS
        while self._under_way and self._under_way[0][0] <= due:
            data = self._under_way.popleft()[1]
            self._held -= len(data)
            if not data:
                self._far.close()
            elif not self._far.is_closing():
                self._far.write(data)
        if self._held <= HELD_MAX and not self._near.is_closing() and not self._near.is_reading():
            self._near.resume_reading()
        if self._under_way:
            self._loop.call_at(self._under_way[0][0], self._deliver)


class _End(asyncio.Protocol):
    """One end of a connection."""

    def __init__(self, arrived: Callable[[_End], None]) -> None:
        self._arrived = arrived
        self._way: _Way | None = None
        self._early: list[bytes] = []  # what came before both ends were joined
        self.joining: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._arrived(self)

    def join(self, way: _Way) -> None:
        """From here on there is somewhere to go."""
        self._way = way
        for data in self._early:
            way.carry(data)

    def data_received(self, data: bytes) -> None:
        if self._way is None:
            self._early.append(data)
        else:
            self._way.carry(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.data_received(b"")
