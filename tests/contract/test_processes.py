"""Who used the CPU, in words."""

from contract.processes import Consumer, ProcessUse, in_words, top


def test_the_first_three_are_named_with_their_share_and_unit() -> None:
    used = [Consumer("a", 2.0, unit="x.service"), Consumer("b", 1.0), Consumer("c", 0.5), Consumer("d", 0.4)]
    use = ProcessUse(seconds=5.0, cores=2, busy_s=4.0, processes=used)
    assert [in_words(one) for one in top(use)] == ["a (x.service) 50 %", "b 25 %", "c 12 %"]
    assert top(ProcessUse(seconds=5.0, cores=2, busy_s=0.0)) == []
