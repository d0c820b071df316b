"""A bound on bytes in memory that nobody can pass, and that never locks up."""

from __future__ import annotations

import random
import threading

from portabl.budget import Budget


def test_never_more_than_the_limit_and_never_stuck() -> None:
    budget, guard = Budget(100), threading.Lock()
    used, most = 0, 0

    def work(seed: int) -> None:
        nonlocal used, most
        dice = random.Random(seed)
        for _ in range(200):
            size = dice.choice((0, 1, 30, 99, 100))
            budget.take(size)
            with guard:
                used += size
                most = max(most, used)
            with guard:
                used -= size
            budget.give(size)

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "stuck"
    assert 0 < most <= 100
    assert budget.take(100, wait=False), "something was not given back"


def test_more_than_everything_counts_as_everything() -> None:
    budget = Budget(10)
    budget.take(10**12)
    assert not budget.take(1, wait=False)
    budget.give(10**12)
    assert budget.take(10, wait=False)


def test_who_is_urgent_passes_the_limit_once() -> None:
    budget = Budget(10)
    budget.take(10)
    assert budget.take(8, urgent=True)
    assert not budget.take(8, wait=False, urgent=True), "one at a time"
    budget.give(8)
    assert budget.take(8, wait=False, urgent=True)
