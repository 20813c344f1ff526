"""Work that is done in threads behind the model comes back whole and in order."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from segscale.bench.runs.stage import Stage


def stage(threads: int) -> Stage[int]:
    return Stage("counting", threads, waiting=2, cores=1)


def raised(number: int) -> int:
    raise ValueError(number)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_results_come_in_the_order_of_the_work(threads: int) -> None:
    with stage(threads) as counting:
        for number in range(20):
            counting.give(partial(int, number))
        assert list(counting.each_done(wait=True)) == list(range(20))
        assert list(counting.each_done(wait=True)) == []


def test_what_is_done_waits_for_earlier_work() -> None:
    held, later_done = threading.Event(), threading.Event()

    def later() -> int:
        later_done.set()
        return 1

    with stage(2) as counting:
        counting.give(lambda: int(held.wait(30)) - 1)
        counting.give(later)
        assert later_done.wait(30)
        assert list(counting.each_done()) == []
        held.set()
        assert list(counting.each_done(wait=True)) == [0, 1]


def test_the_model_waits_when_too_much_is_not_counted() -> None:
    held = threading.Event()
    with stage(1) as counting:
        for _ in range(3):
            counting.give(partial(held.wait, 30))
        more = threading.Thread(target=counting.give, args=(partial(bool, True),))
        more.start()
        more.join(0.2)
        assert more.is_alive()
        held.set()
        more.join(30)
        assert not more.is_alive()
        assert len(list(counting.each_done(wait=True))) == 4


def test_an_error_loses_no_other_result() -> None:
    with stage(2) as counting:
        for work in (partial(int, 1), partial(raised, 2), partial(int, 3)):
            counting.give(work)
        seen: list[int] = []
        with pytest.raises(ValueError, match="2"):
            seen.extend(counting.each_done(wait=True))
        assert list(counting.each_whole()) == [3]
    assert seen == [1], "the first result is handed on before the error"


def test_an_interrupt_while_a_result_is_kept_hands_it_on_again() -> None:
    with stage(1) as counting:
        counting.give(partial(int, 7))
        for result in counting.each_done(wait=True):
            assert result == 7
            break  # as an interrupt would end it
        assert list(counting.each_whole()) == [7]


def test_what_is_dropped_is_not_done_and_what_was_begun_is_kept() -> None:
    held, begun = threading.Event(), threading.Event()

    def long() -> int:
        begun.set()
        return int(held.wait(30))

    with stage(1) as model:
        for work in (long, partial(int, 2)):
            model.give(work)
        assert begun.wait(30)
        model.drop_waiting()
        held.set()
        assert list(model.each_whole()) == [1]


@pytest.mark.parametrize("threads", [0, 1])
def test_what_work_raises_is_raised_where_results_are_asked_for(threads: int) -> None:
    stage: Stage[int] = Stage("counting", threads, 2, 1)
    with stage:
        stage.give(lambda: 1)
        stage.give(lambda: 1 // 0)
        stage.give(lambda: 3)
        results = stage.each_done(wait=True)
        assert next(results) == 1
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert [*stage.each_whole()] == [3]
