"""What a report's members must say together, beyond what each says alone."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from operator import ge, gt, lt

import msgspec
from msgspec import UNSET, UnsetType

from contract.histogram import LINEAR, Bins
from contract.metrics import (
    LAST_CORE,
    MAX_QUANTITY,
    MAX_SHARE_VARIANCE,
    ROUNDING,
    TYPES,
    Cpu,
    Distribution,
    Metric,
    Quantity,
    type_name,
)
from contract.problems import Problem, decode_json, plural, problem_of, undecodable
from contract.processes import Consumer, ProcessUse, disagreements
from contract.report import FUTURE_MS, Report, decode_report
from contract.rounding import clip_rounding
from contract.selectors import fault_of_labels
from contract.times import SECONDS_BELOW

_CPU_MEMBERS = {"min": "min_utilization", "max": "max_utilization", "histogram": "histogram"}
_BY_CORE = (
    "var_utilization_by_core",
    "min_utilization_by_core",
    "max_utilization_by_core",
    "histogram_by_core",
    "cores",
)


class InvalidReport(ValueError):
    """A report that cannot be accepted; `problems` names each reason found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(f"{problem.pointer}: {problem.detail}" for problem in problems))
        self.problems = tuple(problems)


class MalformedReport(InvalidReport):
    """A body that is not JSON."""


Accepted = tuple[Report, bytes]
"""A valid report, and its JSON to keep: the body as it came, or with what rounding had carried out of its range
clipped."""


def accepted(body: bytes, now_ms: int, oldest_ms: int = 0) -> Accepted:
    """The valid report of a JSON body, at the time `now_ms`; raises InvalidReport or MalformedReport.

    A report that ends before `oldest_ms` is refused as older than what is kept. Numbers that are out of their range by
    rounding alone are clipped (`contract.rounding`).
    """
    report, problems = _checked(body, now_ms, oldest_ms)
    if problems:
        # Tried only now: a body that is right at once is decoded and checked once.
        with contextlib.suppress(msgspec.DecodeError):
            document = decode_json(body)
            if clip_rounding(document):
                body = msgspec.json.encode(document)
                report, problems = _checked(body, now_ms, oldest_ms)
    if report is None or problems:
        raise InvalidReport(problems)
    return report, body


def parse(body: bytes, now_ms: int, oldest_ms: int = 0) -> Report:
    """The report of `accepted`, for who does not keep its text."""
    report, _ = accepted(body, now_ms, oldest_ms)
    return report


def _checked(body: bytes, now_ms: int, oldest_ms: int) -> tuple[Report | None, list[Problem]]:
    """The report, where it can be decoded, and what is wrong; raises MalformedReport."""
    try:
        report = decode_report(body)
        if not body.isascii():
            # What the report does not need is kept and handed on as it came: that has to be text as well.
            body.decode()
    except UnicodeDecodeError as error:
        raise MalformedReport([problem_of(undecodable(error))]) from None
    except msgspec.ValidationError as error:
        return None, [_explained(problem_of(error))]
    except msgspec.DecodeError as error:
        raise MalformedReport([problem_of(error)]) from None
    problems = check(report, now_ms)
    if report.end_timestamp < oldest_ms:
        problems.append(
            Problem(
                "/end_timestamp",
                f"expected {oldest_ms} or later, got {report.end_timestamp}, which is older than windows are kept here",
            )
        )
    return report, problems


def check(report: Report, now_ms: int) -> list[Problem]:
    """Every disagreement within a decoded report, at the time `now_ms` (epoch milliseconds)."""
    problems: list[Problem] = []
    start_ms, end_ms = report.start_timestamp, report.end_timestamp
    if not SECONDS_BELOW <= start_ms <= end_ms <= now_ms + FUTURE_MS:
        problems += _times(start_ms, end_ms, now_ms)
    if not (report.user_id.isprintable() and report.os_version.isprintable()):
        problems += _unprintable(report)
    metrics = report.metrics
    if len(metrics) > 1 and len({type(metric) for metric in metrics}) < len(metrics):
        problems.append(Problem("/metrics", "expected each metric type at most once, got one twice"))
    for place, metric in enumerate(metrics):
        if type(metric) is not Cpu:
            problems += _other(metric, f"/metrics/{place}", report.observations_per_metric)
        elif not _is_simple(metric):
            problems += _cpu(metric, f"/metrics/{place}", report.observations_per_metric)
    if report.processes is not UNSET:
        problems += _processes(report.processes)
    if report.labels is not UNSET and (fault := fault_of_labels(report.labels)):
        problems.append(Problem("/labels", fault))
    return problems


def _processes(use: ProcessUse) -> Iterator[Problem]:
    for member, consumers in (("processes", use.processes), ("units", use.units)):
        for place, one in enumerate(consumers):
            if not _is_printable(one):
                detail = "expected printable characters, got control or other unprintable ones"
                yield Problem(f"/processes/{member}/{place}", detail)
    for name, detail in disagreements(use):
        yield Problem(f"/processes/{name}", detail)


def _is_printable(one: Consumer) -> bool:
    return all(text.isprintable() for text in (one.name, one.user, one.unit, one.command))


def _unprintable(report: Report) -> Iterator[Problem]:
    for name, text in (("user_id", report.user_id), ("os_version", report.os_version)):
        if not text.isprintable():
            yield Problem(f"/{name}", "expected printable characters, got control or other unprintable ones")


def _times(start: int, end: int, now_ms: int) -> Iterator[Problem]:
    if end < start:
        yield Problem("/end_timestamp", f"expected a moment from start_timestamp {start} on, got {end}")
    if end > now_ms + FUTURE_MS:
        yield Problem(
            "/end_timestamp",
            f"expected epoch milliseconds at most {FUTURE_MS // 1000} s in the future, got {end}, which is "
            f"{(end - now_ms) // 1000} s ahead: is the sender's clock set?",
        )
    for name, value in (("start", start), ("end", end)):
        if value < SECONDS_BELOW:
            yield Problem(
                f"/{name}_timestamp",
                f"expected epoch milliseconds such as {value * 1000}, got {value}, which looks like seconds",
            )


def _entries(
    part: str, named: Sequence[object], told: Iterable[tuple[Quantity, Sequence[float]]], pointer: str
) -> Iterator[Problem]:
    """What is wrong with lists that have an entry for each of a host's cores, or devices, which are `named`."""
    for quantity, values in told:
        if len(values) != len(named):
            detail = f"expected an entry for each of {len(named)} {part}s, got {len(values)}"
            yield Problem(f"{pointer}/{quantity.attribute}_by_{part}", detail)
    if len(set(named)) < len(named):
        yield Problem(f"{pointer}/{part}s", f"expected each {part} once, got one twice")


def _cores(metric: Metric, pointer: str) -> Iterator[Problem]:
    """What is wrong with the cores that a metric other than the CPU's tells of one by one."""
    return _entries("core", metric.core_numbers(), zip(metric.of_cores, metric.core_values(), strict=True), pointer)


def _devices(metric: Metric, pointer: str) -> Iterator[Problem]:
    """What is wrong with the devices that a metric names."""
    names = metric.device_names()
    yield from _entries("device", names, zip(metric.of_devices, metric.device_values(), strict=True), pointer)
    for place, name in enumerate(names):
        if not name.isprintable():
            detail = "expected printable characters, got control or other unprintable ones"
            yield Problem(f"{pointer}/devices/{place}", detail)


def _is_simple(cpu: Cpu) -> bool:
    """Whether it says nothing but means and variances, which agree: most reports of the original's clients do."""
    variances = cpu.var_utilization_by_core
    return (
        cpu.histogram is UNSET
        and cpu.min_utilization is UNSET
        and cpu.max_utilization is UNSET
        and not (cpu.cores or cpu.min_utilization_by_core or cpu.max_utilization_by_core or cpu.histogram_by_core)
        and (not variances or len(variances) == len(cpu.avg_utilization_by_core))
    )


def _cpu(cpu: Cpu, pointer: str, observations: int) -> Sequence[Problem]:
    cores = len(cpu.avg_utilization_by_core)
    lists: tuple[Sequence[object], ...] = (
        cpu.var_utilization_by_core, cpu.min_utilization_by_core, cpu.max_utilization_by_core,
        cpu.histogram_by_core, cpu.cores,
    )  # fmt: skip
    for place, values in enumerate(lists):
        if values and len(values) != cores:
            detail = f"expected {cores} entries as in avg_utilization_by_core, got {len(values)}"
            return [Problem(f"{pointer}/{_BY_CORE[place]}", detail)]
    if cpu.cores and len(set(cpu.cores)) != cores:
        return [Problem(f"{pointer}/cores", "expected each core once, got one twice")]
    if cpu.cores and max(cpu.cores) > LAST_CORE:
        return [Problem(f"{pointer}/cores", f"expected numbers from 0 to {LAST_CORE}, got {max(cpu.cores)}")]
    if _agrees(cpu, observations):
        return ()
    return [*_cpu_extras(cpu, pointer, observations)]


def _agrees(cpu: Cpu, observations: int) -> bool:
    """Whether minimum, maximum and histogram of the host and of each core may be of the same samples as the mean."""
    if not _may_be(cpu.avg_utilization, cpu.min_utilization, cpu.max_utilization, cpu.histogram, observations, LINEAR):
        return False
    means = cpu.avg_utilization_by_core
    # Compared as lists, at the speed of the interpreter's own loops.
    return (
        not any(map(lt, means, cpu.min_utilization_by_core))
        and not any(map(gt, means, cpu.max_utilization_by_core))
        and all(_is_histogram(one, observations, LINEAR) for one in cpu.histogram_by_core)
    )


def _cpu_extras(cpu: Cpu, pointer: str, observations: int) -> Iterator[Problem]:
    for name, detail in _disagreements(
        cpu.avg_utilization, cpu.min_utilization, cpu.max_utilization, cpu.histogram, observations, LINEAR
    ):
        yield Problem(f"{pointer}/{_CPU_MEMBERS[name]}", detail)
    lists = (cpu.min_utilization_by_core, cpu.max_utilization_by_core, cpu.histogram_by_core)
    if any(lists):
        means = cpu.avg_utilization_by_core
        unsaid = (UNSET,) * len(means)
        by_core = zip(means, *(values or unsaid for values in lists), strict=True)
        for core, (mean, minimum, maximum, histogram) in enumerate(by_core):
            for name, detail in _disagreements(mean, minimum, maximum, histogram, observations, LINEAR):
                yield Problem(f"{pointer}/{_CPU_MEMBERS[name]}_by_core/{core}", detail)


def _other(metric: Metric, pointer: str, observations: int) -> Iterator[Problem]:
    """What is wrong with a metric that is not the CPU's."""
    for quantity, distribution in metric.distributions():
        yield from _distribution(quantity, distribution, f"{pointer}/{quantity.attribute}", observations)
    if metric.of_cores or metric.of_devices:
        yield from _cores(metric, pointer)
        yield from _devices(metric, pointer)


def _distribution(quantity: Quantity, distribution: Distribution, pointer: str, observations: int) -> Iterator[Problem]:
    most, most_variance = (1.0, MAX_SHARE_VARIANCE) if quantity.bounded else (MAX_QUANTITY, MAX_QUANTITY**2)
    for name, value, bound in (
        ("avg", distribution.mean, most),
        ("var", distribution.variance, most_variance),
        ("max", distribution.maximum, most),
    ):
        if value is not UNSET and value > bound:
            why = f": {quantity.title} is a share in [0, 1]" if quantity.bounded else ""
            yield Problem(f"{pointer}/{name}", f"expected at most {bound:.4g}, got {value}{why}")
    count = observations if distribution.observations is UNSET else distribution.observations
    for name, detail in _disagreements(
        distribution.mean, distribution.minimum, distribution.maximum, distribution.histogram, count, quantity.bins
    ):
        yield Problem(f"{pointer}/{name}", detail)


def _disagreements(
    mean: float,
    minimum: float | UnsetType,
    maximum: float | UnsetType,
    histogram: list[int] | UnsetType,
    count: int,
    bins: Bins,
) -> Sequence[tuple[str, str]]:
    """What of `min`, `max` and `histogram` cannot be of the same `count` samples as the rest, and why."""
    if _may_be(mean, minimum, maximum, histogram, count, bins):
        return ()
    found = []
    tolerance = ROUNDING * max(1.0, mean)
    if minimum is not UNSET and minimum > mean + tolerance:
        found.append(("min", f"expected at most the mean {mean}, got {minimum}"))
    if maximum is not UNSET and maximum < mean - tolerance:
        found.append(("max", f"expected at least the mean {mean}, got {maximum}"))
    if histogram is not UNSET and (reason := _histogram_fault(histogram, count, bins)):
        found.append(("histogram", reason))
    return found


def _may_be(
    mean: float,
    minimum: float | UnsetType,
    maximum: float | UnsetType,
    histogram: list[int] | UnsetType,
    count: int,
    bins: Bins,
) -> bool:
    """Whether `_disagreements` finds none, told quickly; rounding is left to that."""
    return (
        (minimum is UNSET or minimum <= mean)
        and (maximum is UNSET or maximum >= mean)
        and (histogram is UNSET or _is_histogram(histogram, count, bins))
    )


def _is_histogram(flat: list[int], count: int, bins: Bins) -> bool:
    """Whether a flat histogram is one of `count` samples: told in one pass, for there are several in most reports."""
    total, last = 0, bins.first - 1
    pairs = iter(flat)
    for index, number in zip(pairs, pairs, strict=False):
        if index <= last or number < 1:
            return False
        last = index
        total += number
    return total == count and last <= bins.last and len(flat) % 2 == 0


def _histogram_fault(flat: list[int], count: int, bins: Bins) -> str | None:
    """Why a flat histogram is not one of `count` samples, or None where it is."""
    indices, counts = flat[::2], flat[1::2]
    if len(indices) != len(counts):
        return f"expected pairs of bin and count, got {plural(len(flat), 'number')}"
    if sum(counts) != count:
        return f"expected counts of {plural(count, 'sample')}, as many as there were observations, got {sum(counts)}"
    if min(counts) < 1:
        return f"expected counts of at least 1 without empty bins, got {min(counts)}"
    if indices[0] < bins.first or indices[-1] > bins.last:
        return f"expected bins from {bins.first} to {bins.last}, got {indices[0]} to {indices[-1]}"
    if any(map(ge, indices, indices[1:])):
        return "expected bins in ascending order, got others"
    return None


def _explained(problem: Problem) -> Problem:
    if problem.pointer.endswith("/type") or "missing required field type" in problem.detail:
        known = ", ".join(type_name(kind) for kind in TYPES)
        return Problem(problem.pointer, f"{problem.detail}; expected one of {known}")
    if problem.pointer == "/os_type":
        return Problem(problem.pointer, f"{problem.detail}; expected Linux, MacOS or Windows")
    return problem
