"""The line of questions: each domain once, again without an answer, and no tenant before the others."""

from collections import Counter

from mta.queue.awake import Queue
from mta.queue.resolving import MOST_QUESTIONS, MOST_SLOW, RESOLVE_AGAIN_MS, SLOW_MS, Question, Resolving

from .samples import T0, name


def asking(resolving: Resolving, number: int, domain: str, tenant: str = "default") -> Queue:
    queue = Queue(number, name(domain, tenant))
    resolving.ask(queue)
    return queue


def test_resolving_domain_is_asked_once_for_all_who_wait() -> None:
    resolving = Resolving()
    queues = [asking(resolving, n, "a.test", f"t{n}") for n in range(3)]
    resolving.ask(queues[0])
    assert resolving.questions(T0) == [Question("a.test", "")]
    assert resolving.questions(T0 + RESOLVE_AGAIN_MS) == []
    assert resolving.answered(Question("a.test", "")) == queues
    assert resolving.answered(Question("a.test", "")) == []
    assert resolving.questions(T0 + 10 * RESOLVE_AGAIN_MS) == []


def test_resolving_question_without_an_answer_is_asked_again() -> None:
    resolving = Resolving()
    asking(resolving, 1, "a.test")
    for n in range(5):
        assert resolving.questions(T0 + n * (RESOLVE_AGAIN_MS + 1)) == [Question("a.test", "")]


def test_resolving_queue_that_sleeps_is_not_waited_for() -> None:
    resolving = Resolving()
    first, second = asking(resolving, 1, "a.test"), asking(resolving, 2, "a.test", "other")
    resolving.forget(first)
    resolving.forget(first)
    assert resolving.questions(T0) == [Question("a.test", "")]
    resolving.forget(second)
    assert resolving.questions(T0 + RESOLVE_AGAIN_MS + 1) == []
    # The answer comes all the same, and nobody minds.
    assert resolving.answered(Question("a.test", "")) == []


def test_resolving_has_so_many_questions_open_and_more_with_each_answer() -> None:
    resolving = Resolving()
    for number in range(2 * MOST_QUESTIONS):
        asking(resolving, number, f"d{number}.test")
    asked = resolving.questions(T0)
    assert len(asked) == MOST_QUESTIONS
    assert resolving.questions(T0 + 1) == []
    for question in asked[:10]:
        resolving.answered(question)
    more = resolving.questions(T0 + 2)
    assert len(more) == 10
    assert not set(more) & set(asked)


def test_resolving_tenant_with_many_domains_leaves_room_for_the_others() -> None:
    resolving = Resolving()
    for number in range(3 * MOST_QUESTIONS):
        asking(resolving, number, f"bulk{number}.test", "bulk")
    for number in range(20):
        asking(resolving, 10_000 + number, f"small{number}.test", "small")
    asked = Counter(question.domain[:4] for question in resolving.questions(T0))
    assert asked == {"bulk": MOST_QUESTIONS // 2, "smal": 20}


def test_resolving_tenant_that_comes_later_does_not_wait_for_the_others_answers() -> None:
    resolving = Resolving()
    for number in range(3 * MOST_QUESTIONS):
        asking(resolving, number, f"bulk{number}.test", "bulk")
    for tenant in ("second", "third"):
        resolving.questions(T0)
        asking(resolving, 10_000, f"{tenant}.test", tenant)
        for question in resolving.questions(T0 + RESOLVE_AGAIN_MS + 1):
            resolving.answered(question)
        assert resolving.answered(Question(f"{tenant}.test", "")) == []


def test_resolving_questions_without_an_answer_do_not_hold_up_the_others() -> None:
    resolving = Resolving()
    for number in range(3 * MOST_QUESTIONS):
        asking(resolving, number, f"silent{number}.test")
    asking(resolving, 10_000, "healthy.test")
    asked = [resolving.questions(T0 + turn * SLOW_MS) for turn in range(4)]
    assert [len(questions) for questions in asked] == [MOST_QUESTIONS] * 3 + [1]
    assert asked[3] == [Question("healthy.test", "")]
    # Nobody is asked twice meanwhile, and all but the first are asked again in their time.
    assert len({question for questions in asked for question in questions}) == 3 * MOST_QUESTIONS + 1
    again = resolving.questions(T0 + RESOLVE_AGAIN_MS + 1)
    assert set(again) == set(asked[0])


def test_resolving_slow_questions_are_bounded_and_an_answer_takes_them_off() -> None:
    resolving = Resolving()
    for number in range(MOST_SLOW + 3 * MOST_QUESTIONS):
        asking(resolving, number, f"silent{number}.test")
    asked = [question for turn in range(40) for question in resolving.questions(T0 + turn * SLOW_MS)]
    assert len(asked) == MOST_SLOW + MOST_QUESTIONS
    for question in asked[:10]:
        assert resolving.answered(question)
    assert len(resolving.questions(T0 + 40 * SLOW_MS)) == 10


def test_resolving_slow_questions_are_put_again_when_who_was_asked_is_gone() -> None:
    resolving = Resolving()
    asking(resolving, 1, "silent.test")
    assert len(resolving.questions(T0)) == 1
    assert resolving.questions(T0 + SLOW_MS) == []
    resolving.ask_again()
    assert resolving.questions(T0 + SLOW_MS) == [Question("silent.test", "")]
