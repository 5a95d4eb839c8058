"""Names of processes: who has ended is told from who cannot be seen."""

import os
import subprocess
import sys

import pytest

from service.control.process_names import has_ended, own_name

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says enough")


def test_a_process_that_runs_has_not_ended_and_one_that_is_gone_has() -> None:
    assert not has_ended(own_name())
    asked = "from service.control.process_names import own_name; print(own_name())"
    ended = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.strip()
    assert has_ended(ended)


def test_a_number_that_was_given_again_is_another_process() -> None:
    space, _, start = own_name().rpartition(" ")
    assert has_ended(f"{space} {int(start) - 1}")


def test_of_other_hosts_and_of_names_that_say_nothing_nothing_is_told() -> None:
    assert not has_ended("elsewhere " + own_name().partition(" ")[2])
    assert not has_ended("")
    assert not has_ended(str(os.getpid()))
