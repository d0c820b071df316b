"""The lock of the key guard: watched writes are alone, ordinary ones are not held up for ever."""

from __future__ import annotations

import random
import threading
import time

from portabl.guard import _SharedLock


def test_a_watched_write_is_alone() -> None:
    lock, guard = _SharedLock(), threading.Lock()
    shared = alone = 0
    wrong: list[str] = []

    def check() -> None:
        with guard:
            if alone > 1 or (alone and shared):
                wrong.append(f"{alone} alone, {shared} shared")

    def ordinary(seed: int) -> None:
        nonlocal shared
        dice = random.Random(seed)
        for _ in range(50):
            lock.enter()
            with guard:
                shared += 1
            check()
            time.sleep(dice.random() / 2000)
            with guard:
                shared -= 1
            lock.leave()

    def watched() -> None:
        nonlocal alone
        for _ in range(20):
            with lock.exclusive():
                with guard:
                    alone += 1
                check()
                time.sleep(0.0005)
                with guard:
                    alone -= 1

    threads = [threading.Thread(target=ordinary, args=(n,), daemon=True) for n in range(6)]
    threads += [threading.Thread(target=watched, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "stuck"
    assert not wrong
