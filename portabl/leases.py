"""One budget for several processes of this machine: whoever leads them grants leases over a local socket.

`portabl.throttle.Throttle` holds the budget, `Leased` uses it in a worker; this is the line between the two.
"""

from __future__ import annotations

import contextlib
import threading
from multiprocessing import AuthenticationError, current_process
from multiprocessing.connection import Client, Connection, Listener

from portabl.errors import Unreachable
from portabl.throttle import Lease, Throttle

BACKLOG = 128
_GONE = "the process that leads this worker is gone"


class Lessor:
    """Grants leases of a throttle to child processes of this one, each known by its connection.

    Nobody else is let in: the key that processes of `multiprocessing` have in common is asked for.
    """

    def __init__(self, throttle: Throttle) -> None:
        self._throttle = throttle
        self._listener = Listener(backlog=BACKLOG, authkey=current_process().authkey)
        self.address = str(self._listener.address)
        self._closing = False
        self._thread = threading.Thread(target=self._accept, name="portabl-lessor", daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with self._listener:  # once nobody is let in any more, whoever comes is refused and does not wait
            while not self._closing:
                try:
                    connection = self._listener.accept()
                except (AuthenticationError, OSError, EOFError):  # a worker that died, or one who is none of ours
                    continue
                threading.Thread(target=self._grant, args=(connection,), daemon=True).start()

    def _grant(self, connection: Connection) -> None:
        holder = f"connection {id(connection)}"
        with connection, contextlib.suppress(EOFError, OSError):  # the worker ended
            while True:
                requests, sent, received = connection.recv()
                connection.send(self._throttle.lease(requests, sent, received, holder))

    def close(self) -> None:
        """Let nobody else in."""
        self._closing = True
        with contextlib.suppress(OSError, EOFError):
            Client(self.address, authkey=current_process().authkey).close()  # wakes the thread that waits for one
        self._thread.join()


def lease_from(address: str) -> Lease:
    """Connect to the `Lessor` at an address. Raises Unreachable when it is gone, as the lease does later."""
    try:
        connection = Client(address, authkey=current_process().authkey)
    except (EOFError, OSError):
        raise Unreachable(_GONE) from None

    def lease(requests: int, sent: int, received: int) -> tuple[float, tuple[int, ...]]:
        try:
            connection.send((requests, sent, received))
            answer: tuple[float, tuple[int, ...]] = connection.recv()
        except (EOFError, OSError):
            raise Unreachable(_GONE) from None
        return answer

    return lease
