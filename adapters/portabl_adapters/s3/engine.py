"""Many requests in one thread, over libcurl's multi interface. https://curl.se/libcurl/c/libcurl-multi.html

An engine sends a request once. An answer below 300 goes straight to the task that asked; with anything else, and with
requests that libcurl does not sign or that the store's pace holds back, the task goes on in a thread of its own, where
`Calls.perform` retries, waits and renews as it does for all others.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable

import pycurl

from portabl.tasks import Call, Carrier, Task
from portabl_adapters.s3.calls import Calls, Request, Tried
from portabl_adapters.s3.wire import CurlHandle, Keys, lost

AVAILABLE = hasattr(select, "epoll") and hasattr(os, "eventfd")
CONNECTIONS_KEPT = 1024
_WAIT_MOST_SECONDS = 60.0
_EPOLL = {pycurl.POLL_IN: 1, pycurl.POLL_OUT: 4, pycurl.POLL_INOUT: 5}  # EPOLLIN, EPOLLOUT
_READ = 1 | 8 | 16  # EPOLLIN, EPOLLERR, EPOLLHUP: reading tells what is wrong


class _Lane(CurlHandle):
    """A handle, and whose request it carries."""

    request: Request
    keys: Keys
    task: Task[None]
    idle: list[_Lane]


class CurlEngine(Carrier):
    """Drives tasks by the sockets that are ready. One thread runs it; `wake` alone is for others."""

    def __init__(self) -> None:
        self._idle: dict[tuple[Calls, str], list[_Lane]] = {}
        self._busy: dict[pycurl.Curl, _Lane] = {}
        self._deadline: float | None = None
        self._poll = select.epoll()
        self._waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._waker, select.EPOLLIN)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, CONNECTIONS_KEPT)
        self._watched: dict[int, int] = {}

    def run(
        self, take: Callable[[], Task[None] | None], away: Callable[[Task[None], Call], None], over: Callable[[], bool]
    ) -> None:
        """See `Carrier.run`."""
        self._away = away
        while True:
            while (task := take()) is not None:
                self._go_on(task, None)
            if not self._busy and over():
                return
            self._turn()
            self._harvest()

    def carries(self, call: Call) -> bool:
        """See `Carrier.carries`."""
        return isinstance(call, Request) and call.sink is None

    def wake(self) -> None:
        """See `Carrier.wake`."""
        os.eventfd_write(self._waker, 1)

    def close(self) -> None:
        """Close every connection."""
        for lane in (*self._busy.values(), *(lane for lanes in self._idle.values() for lane in lanes)):
            lane.close()
        self._multi.close()
        self._poll.close()
        os.close(self._waker)

    def _go_on(self, task: Task[None], answer: object) -> None:
        """Give a task its answer, and send what it asks for next."""
        try:
            call = task.send(answer)
        except StopIteration:
            return
        if not isinstance(call, Request) or call.sink is not None or (keys := call.calls.keys_for(call)) is None:
            self._away(task, call)
            return
        idle = self._idle.setdefault((call.calls, call.method), [])
        lane = idle.pop() if idle else _Lane(call.calls.address, call.calls.stall_seconds)
        try:
            lane.begin(call.method, call.url, call.headers, call.body, call.sha256, keys)
        except (pycurl.error, ValueError):  # a thread meets with the same, and tells the task
            lane.close()
            self._away(task, call)
            return
        lane.task, lane.request, lane.keys, lane.idle = task, call, keys, idle
        self._busy[lane.curl] = lane
        self._multi.add_handle(lane.curl)

    def _turn(self) -> None:
        """Wait until a socket is ready or a time has come, and let libcurl do what there is to do."""
        act = self._multi.socket_action
        for fd, events in self._poll.poll(self._patience()):
            if fd == self._waker:
                os.eventfd_read(fd)
            else:
                act(fd, (pycurl.CSELECT_IN if events & _READ else 0) | (pycurl.CSELECT_OUT if events & 4 else 0))
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._deadline = None
            act(pycurl.SOCKET_TIMEOUT, 0)

    def _patience(self) -> float:
        if self._deadline is None:
            return _WAIT_MOST_SECONDS
        return max(0.0, min(_WAIT_MOST_SECONDS, self._deadline - time.monotonic()))

    def _harvest(self) -> None:
        """Hand out the answers that are complete, and what went wrong."""
        waiting = 1
        while waiting:
            waiting, done, failed = self._multi.info_read()
            for curl in done:
                lane = self._released(curl)
                answer = lane.end()
                if answer.status < 300:
                    self._go_on(lane.task, answer)
                else:
                    self._met(lane, Tried(lane.request, lane.keys, answer, None))
            for curl, code, text in failed:
                lane = self._released(curl)
                self._met(lane, Tried(lane.request, lane.keys, None, lost(code, text)))

    def _released(self, curl: pycurl.Curl) -> _Lane:
        self._multi.remove_handle(curl)
        lane = self._busy.pop(curl)
        lane.idle.append(lane)
        return lane

    def _met(self, lane: _Lane, tried: Tried) -> None:
        """The task goes on in a thread that may wait and try again."""
        self._away(lane.task, tried.request.calls.met(tried))

    def _watch(self, event: int, fd: int, _multi: object, _data: object) -> None:
        """libcurl: these are the events to wait for on this socket."""
        if event == pycurl.POLL_REMOVE:
            if self._watched.pop(fd, 0):
                self._poll.unregister(fd)
            return
        wanted = _EPOLL[event]
        known = self._watched.get(fd)
        if known is None:
            self._poll.register(fd, wanted)
        elif known != wanted:
            self._poll.modify(fd, wanted)
        self._watched[fd] = wanted

    def _set_timer(self, milliseconds: int) -> None:
        self._deadline = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000
