"""Work that can be set down wherever it waits, so that one thread can see to many objects.

A task is a generator. What it yields is a call: a request to a store, or anything else that takes its time. Whoever
drives the task makes the call and sends its answer in, or throws its error in. Any thread can make a call, by calling
it (`finish`); a `Carrier` carries many calls of its own kind at once. After any call a task may go on in another
thread.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Generator
from typing import Any, TypeVar

T = TypeVar("T")

Call = Callable[[], Any]
Task = Generator[Call, Any, T]


def aside() -> None:
    """The call that does nothing. A task yields it before anything that may block: no engine carries it, so what
    follows runs in a thread that may wait.
    """


def briefly() -> None:
    """The same, where only what comes before the next call may block: that one may be carried by an engine again."""


def _answered(task: Task[T], call: Call) -> Call:
    """Make a call and give the task what came of it; its next call. Raises StopIteration at its end."""
    try:
        answer = call()
    except BaseException as error:
        return task.throw(error)
    return task.send(answer)


def finish(task: Task[T], call: Call | None = None) -> T:
    """Drive a task to its end in this thread, from ``call``, which it has yielded, or from its beginning."""
    try:
        call = call or next(task)
        while True:
            call = _answered(task, call)
    except StopIteration as end:
        result: T = end.value
        return result


def until(task: Task[T], call: Call, carried: Callable[[Call], bool]) -> Call | None:
    """Drive a task in this thread from ``call`` up to the first call that is ``carried``, which is returned, not made,
    or to its end (None). After `aside` it is driven to its end.
    """
    try:
        while not carried(call := _answered(task, call)):
            if call is aside:
                finish(task, call)
                return None
    except StopIteration:
        return None
    return call


def resumed(task: Task[T], call: Call) -> Task[None]:
    """What is left of a task that has yielded ``call``, as a task of its own."""
    try:
        while True:
            try:
                answer = yield call
            except BaseException as error:
                call = task.throw(error)
            else:
                call = task.send(answer)
    except StopIteration:
        return


class Carrier(abc.ABC):
    """Carries the calls of many tasks at once, all in the thread that runs it. Context manager: leaving closes it."""

    @abc.abstractmethod
    def run(
        self, take: Callable[[], Task[None] | None], away: Callable[[Task[None], Call], None], over: Callable[[], bool]
    ) -> None:
        """Drive tasks until ``over`` says that ``take`` will have no more, and every one is at its end or away.

        ``take``: the next task, None when there is none now. ``away`` is given a task with a call that this engine does
        not carry, or that has met with anything but success: it is finished elsewhere. Tasks given here never raise.
        """

    @abc.abstractmethod
    def carries(self, call: Call) -> bool:
        """Whether a call is of the kind that it carries."""

    @abc.abstractmethod
    def wake(self) -> None:
        """Have a running engine ask ``take`` and ``over`` again; called from any thread."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of connections."""

    def __enter__(self) -> Carrier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
