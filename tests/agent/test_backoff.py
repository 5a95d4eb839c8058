"""The waits between attempts."""

from agent.backoff import CAP_S, RETRY_AFTER_CAP_S, Backoff


def test_the_bound_doubles_up_to_a_minute_and_begins_anew_after_a_success() -> None:
    backoff = Backoff(uniform=lambda _least, most: most)
    assert [backoff.next_s() for _ in range(9)] == [1, 2, 4, 8, 16, 32, CAP_S, CAP_S, CAP_S]
    backoff.reset()
    assert backoff.next_s() == 1.0


def test_the_wait_is_anywhere_below_the_bound() -> None:
    backoff = Backoff()
    for _ in range(10):
        backoff.next_s()
    waits = [backoff.next_s() for _ in range(500)]
    assert all(0.0 <= wait <= CAP_S for wait in waits)
    assert min(waits) < 0.2 * CAP_S < 0.8 * CAP_S < max(waits)


def test_what_the_service_asks_for_comes_first_within_reason() -> None:
    backoff = Backoff(uniform=lambda _least, most: most)
    assert backoff.next_s(30.0) == 31.0
    assert backoff.next_s(86_400.0) == RETRY_AFTER_CAP_S + 2.0


def test_an_outage_of_months_is_no_harm() -> None:
    backoff = Backoff(uniform=lambda _least, most: most)
    assert [backoff.next_s() for _ in range(5000)][-1] == CAP_S
