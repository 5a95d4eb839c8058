"""Users and cores join, on the event loop, while threads go through those that are known."""

from contract.metrics import Cpu
from contract.times import DAY_MS
from service.stores.base import Question
from service.stores.influx.database import oldest_ms
from service.stores.influx.users import UserCatalog
from service.stores.selection import select
from service.stores.series import SeriesIndex, User

CPU = Cpu.quantities[0]


class Joining(int):
    """A number; whoever compares it lets a user and a core join, as another thread may at any moment."""

    index: SeriesIndex

    def _join(self) -> None:
        number = len(self.index.users)
        self.index.users[f"new {number}"] = User(f"new {number}", "Linux", "12", 1, DAY_MS, DAY_MS)
        self.index.of_name("one", CPU.name, 100 + number)

    def __lt__(self, other: object) -> bool:
        self._join()
        return int(self) < other  # type: ignore[operator]

    def __ne__(self, other: object) -> bool:
        self._join()
        return int(self) != other

    def __eq__(self, other: object) -> bool:
        return int(self) == other

    __hash__ = int.__hash__


def joining() -> SeriesIndex:
    index = SeriesIndex()
    numbers = type("Number", (Joining,), {"index": index})
    for name in ("one", "two", "three"):
        index.users[name] = User(name, "Linux", "12", 1, numbers(2 * DAY_MS), 2 * DAY_MS)
        for core in range(3):
            index.of_name(name, CPU.name, numbers(core))
    return index


def test_a_question_of_each_core_has_those_that_were_known_when_it_was_asked() -> None:
    chosen = select(joining(), Question(CPU, 0, DAY_MS, DAY_MS, "one", cores="each"))
    assert chosen.labels["core"].tolist() == [0, 1, 2]


def test_the_oldest_day_is_found() -> None:
    assert oldest_ms(joining()) == 2 * DAY_MS


def test_what_is_known_of_a_user_is_written() -> None:
    index = joining()
    assert UserCatalog(index).user(index.users["one"], {}).core_numbers == [0, 1, 2]


def test_a_host_that_joins_is_in_the_next_answer_of_each_host() -> None:
    index = SeriesIndex()
    question = Question(quantity=CPU, start_ms=0, end_ms=DAY_MS, rate_ms=1000, by="user")
    for number, name in enumerate(("web-2", "web-1", "web-3"), 1):
        index.users[name] = User(name, "Linux", "12", 1, DAY_MS, DAY_MS)
        index.of_name(name, CPU.name, None)
        chosen = select(index, question)
        assert chosen.series.tolist() == list(range(1, number + 1))
        assert sorted(chosen.labels["user"].astype(str)) == sorted(index.users)
        assert len(chosen.bounded) == number + 1
    later = Question(quantity=CPU, start_ms=DAY_MS, end_ms=2 * DAY_MS, rate_ms=1000, by="user", histograms=True)
    again = select(index, later)
    assert again.question is later, "what is kept of hosts is of no range"
    assert again.labels is chosen.labels and again.rank.tolist() == [1, 0, 2]
    index.of_name("web-1", CPU.name, 0)
    assert select(index, Question(quantity=CPU, start_ms=0, end_ms=1, rate_ms=1, by="user", cores="each")).labels[
        "core"
    ].tolist() == [0]


def test_what_is_kept_of_questions_does_not_grow_with_what_is_asked() -> None:
    """One selection for each quantity, however many cores are asked for by number."""
    index = SeriesIndex()
    index.users["one"] = User("one", "Linux", "12", 1, DAY_MS, DAY_MS)
    for core in (None, 0):
        index.of_name("one", CPU.name, core)
    for cores in ("whole", "each", *range(100)):
        select(index, Question(CPU, 0, DAY_MS, DAY_MS, by="user", cores=cores))
    assert len(index.selected) == 1
