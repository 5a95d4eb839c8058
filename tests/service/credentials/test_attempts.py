"""Who fails too often waits, and nobody else."""

import pytest

from service.credentials.rates import FailedAttempts


def test_a_minutes_failures_are_free_and_then_they_come_back_one_by_one() -> None:
    attempts = FailedAttempts(6)
    for _ in range(6):
        assert attempts.wait_s("192.0.2.1", 1000.0) == 0.0
        attempts.note("192.0.2.1", 1000.0)
    assert attempts.wait_s("192.0.2.1", 1000.0) == pytest.approx(10.0)
    assert attempts.wait_s("192.0.2.1", 1009.0) == pytest.approx(1.0)
    assert attempts.wait_s("192.0.2.1", 1010.0) == 0.0
    assert attempts.wait_s("192.0.2.2", 1000.0) == 0.0
    attempts.note("192.0.2.1", 1010.0)
    assert attempts.wait_s("192.0.2.1", 1010.0) == pytest.approx(10.0)
    assert attempts.wait_s("192.0.2.1", 2000.0) == 0.0


def test_addresses_of_one_ipv6_network_count_together() -> None:
    attempts = FailedAttempts(1)
    attempts.note("2001:db8::1", 0.0)
    assert attempts.wait_s("2001:db8::ffff", 0.0) > 0.0
    assert attempts.wait_s("2001:db8:0:1::1", 0.0) == 0.0


def test_an_address_is_known_once_something_right_came_from_it() -> None:
    attempts = FailedAttempts(1)
    assert not attempts.knows("192.0.2.1")
    attempts.note_success("192.0.2.1")
    attempts.note_success("2001:db8::1")
    assert attempts.knows("192.0.2.1")
    assert attempts.knows("2001:db8::2")
    assert not attempts.knows("192.0.2.2")
    for number in range(20_000):
        attempts.note_success(f"address {number}")
    assert not attempts.knows("192.0.2.1")


def test_what_is_remembered_is_bounded() -> None:
    attempts = FailedAttempts(1)
    for number in range(20_001):
        attempts.note(f"10.{number // 65536}.{number // 256 % 256}.{number % 256}", 0.0)
    assert len(attempts.rate) == 10_000
