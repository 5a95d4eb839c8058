"""A comparison says how large a difference is, and calls chance chance."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from analytics import compare, connect
from analytics.frames.frame import FrameError, frame_of_values
from analytics.methods.standard_errors import Cells, error_of
from contract.metrics import NAMES
from tests.support.sampled_fleets import loads, sampled
from tests.support.sampled_windows import Samples

SAMPLE = Path(__file__).parents[3] / "service" / "commands" / "demo" / "data" / "planetlab-sample.parquet"
RECEIVED = next(name for name, metric in NAMES.items() if metric.quantity.unit == "By/s")
RANDOM = np.random.default_rng(6)
DAYS = 14


def noise(correlation: float, series: int, hours: int) -> Samples:
    """Stretches of noise in which an hour is like the one before."""
    return lfilter([1], [1, -correlation], RANDOM.normal(size=(series, hours + 500)), axis=1)[:, 500:]


def p_value(before: Samples, after: Samples) -> float:
    """Of two stretches of one host, one after the other."""
    places = np.arange(len(before) + len(after))
    sides = [
        Cells(False, np.zeros(len(means), np.int64), times, means, np.full(len(means), 1 / len(means)))
        for times, means in ((places[: len(before)], before), (places[len(before) :], after))
    ]
    return error_of(*sides).p_value(float(after.mean() - before.mean()))


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9, 0.97])
def test_noise_is_called_a_difference_as_seldom_as_promised(correlation: float) -> None:
    days = noise(correlation, 600, 2 * DAYS * 24).reshape(600, 2 * DAYS, 24).mean(axis=2)
    found = np.mean([p_value(one[:DAYS], one[DAYS:]) < 0.05 for one in days])
    assert found <= 0.075


def test_the_same_noise_taken_as_independent_hours_would_often_be_a_difference() -> None:
    from scipy.stats import ttest_ind

    hours = noise(0.9, 300, 2 * DAYS * 24)
    assert np.mean([ttest_ind(one[: DAYS * 24], one[DAYS * 24 :]).pvalue < 0.05 for one in hours]) > 0.4


def test_whole_frames_of_noise_are_compared_by_the_day() -> None:
    found = []
    for one in 0.5 + 0.03 * np.clip(noise(0.9, 40, 2 * DAYS * 24), -8, 8):
        frame = loads(one)
        halves = frame.iloc[: DAYS * 24], frame.iloc[DAYS * 24 :]
        found.append(compare(*halves)["p_value"].iloc[0] < 0.05)
    assert np.mean(found) <= 0.15
    assert compare(*halves)["blocks_before"].tolist() == [DAYS]


def test_a_difference_is_found_and_told_in_words() -> None:
    base = 0.3 + 0.02 * np.clip(noise(0.7, 1, 2 * DAYS * 24)[0], -4, 4)
    base[DAYS * 24 :] += 0.15
    frame = loads(base)
    [row] = compare(frame.iloc[: DAYS * 24], frame.iloc[DAYS * 24 :], names=("May", "June")).to_dict("records")
    assert row["difference"] == pytest.approx(row["mean_June"] - row["mean_May"])
    assert row["lower"] < 0.15 < row["upper"]
    assert row["p_value"] < 0.001
    assert row["hedges_g"] > 0.8
    assert row["cliffs_delta"] > 0.8
    assert row["verdict"].startswith("June is higher than May: 0.4")
    assert row["verdict"].endswith("a large effect")


def test_effects_are_those_of_the_raw_samples() -> None:
    fleet = sampled(users=2, windows=400)
    first, second = (fleet.frame[fleet.frame["user"] == f"user {user}"] for user in (0, 1))
    a, b = (fleet.samples.loc[fleet.samples["user"] == f"user {user}", "value"].to_numpy() for user in (0, 1))
    [row] = compare(first, second, block="6h").to_dict("records")
    pooled = np.sqrt((len(a) * a.var() + len(b) * b.var()) / (len(a) + len(b) - 2))
    correction = 1 - 3 / (4 * (len(a) + len(b) - 2) - 1)
    assert row["hedges_g"] == pytest.approx((b.mean() - a.mean()) / pooled * correction, rel=1e-9)
    binned = [np.minimum((part * 64).astype(int), 63) for part in (a, b)]
    delta = np.sign(binned[1][:, None] - binned[0][None, :]).mean()
    assert row["cliffs_delta"] == pytest.approx(delta, rel=1e-9)


def test_users_are_compared_one_by_one() -> None:
    calm = [loads(0.3 + 0.01 * noise(0.5, 1, 2 * DAYS * 24)[0].clip(-4, 4), user=f"calm {n}") for n in range(9)]
    load = 0.3 + 0.01 * noise(0.5, 1, 2 * DAYS * 24)[0].clip(-4, 4)
    load[DAYS * 24 :] += 0.2
    fleet = pd.concat([*calm, loads(load, user="grown")])
    middle = pd.Timestamp("2024-01-15", tz="UTC")
    answer = compare(fleet[fleet.index < middle], fleet[fleet.index >= middle], by="user")
    assert answer["user"].iloc[0] == "grown"
    assert answer["verdict"].str.startswith("after is higher").tolist() == [True] + [False] * 9
    with pytest.raises(FrameError, match="no user in common"):
        compare(calm[0], calm[1], by="user")
    with pytest.raises(FrameError, match="no users to compare"):
        compare(calm[0].drop(columns="user"), calm[1], by="user")
    with pytest.raises(FrameError, match="no samples"):
        compare(calm[0].iloc[:0], calm[1])


@pytest.fixture(scope="module")
def fleet() -> pd.DataFrame:
    """Sixty real hosts, hourly, on six days."""
    with connect(SAMPLE) as source:
        return source.fleet(rate="1h", by="user", histograms=False)


def dealt(frame: pd.DataFrame, seed: int, size: int | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two groups of its hosts, dealt at random."""
    users = frame["user"].astype(str)
    order = np.random.default_rng(seed).permutation(users.unique())
    size = size or len(order) // 2
    return frame[users.isin(order[:size]).to_numpy()], frame[users.isin(order[size : 2 * size]).to_numpy()]


@pytest.mark.slow
@pytest.mark.parametrize("days", [1, 3, 6])
@pytest.mark.parametrize("size", [8, None])
def test_groups_dealt_at_random_seldom_differ(fleet: pd.DataFrame, days: int, size: int | None) -> None:
    frame = fleet[fleet.index < sorted(fleet.index.normalize().unique())[days - 1] + pd.Timedelta(days=1)]
    answers = pd.concat([compare(*dealt(frame, seed, size)) for seed in range(80)])
    assert 0.01 <= (answers["p_value"] < 0.05).mean() <= 0.1
    assert set(answers["unit"]) == {"hosts"}


@pytest.mark.slow
def test_groups_of_unequal_size_and_weight_seldom_differ(fleet: pd.DataFrame) -> None:
    frame = fleet.drop(columns="histogram").assign(count=np.where(fleet["user"].cat.codes % 3 == 0, 7200, 12))
    found = []
    for seed in range(80):
        first, second = dealt(frame, seed, 25)
        few = second["user"].astype(str).isin(sorted(second["user"].astype(str).unique())[:6])
        found.append(compare(first, second[few])["p_value"].iloc[0] < 0.05)
    assert np.mean(found) <= 0.1


def test_groups_that_differ_are_told_apart(fleet: pd.DataFrame) -> None:
    found = []
    for seed in range(20):
        first, second = dealt(fleet, seed)
        more = second.assign(mean=(second["mean"] + 0.08).clip(upper=1), max=1.0)
        found.append(compare(first, more)["p_value"].iloc[0] < 0.05)
    assert np.mean(found) >= 0.9


def test_hosts_in_both_frames_are_compared_with_themselves() -> None:
    random = np.random.default_rng(2)
    levels = random.uniform(0.1, 0.7, (20, 1)) + random.normal(0, 0.01, (20, 2 * DAYS))
    levels[:, DAYS:] += 0.02
    frame = pd.concat([loads(each, every="1D", user=f"m{n}") for n, each in enumerate(levels)])
    middle = frame.index.min() + pd.Timedelta(days=DAYS)
    first, second = frame[frame.index < middle], frame[frame.index >= middle]
    [row] = compare(first, second).to_dict("records")
    assert (row["unit"], row["hosts_before"], row["blocks_after"]) == ("hosts and blocks", 20, DAYS)
    assert row["lower"] <= 0.02 <= row["upper"]
    others = second.assign(user="other " + second["user"])
    unpaired = compare(first, others).iloc[0]
    assert row["upper"] - row["lower"] < 0.1 * (unpaired["upper"] - unpaired["lower"])
    assert row["p_value"] < 0.001 < 0.05 < unpaired["p_value"]


@pytest.mark.slow
@pytest.mark.parametrize("common", [0.0, 0.7, 1.0])
def test_a_fleet_is_seldom_called_changed_by_days_that_are_all_hosts(common: float) -> None:
    found = []
    for seed in range(80):
        random = np.random.default_rng(seed)
        levels = random.uniform(0.2, 0.6, (12, 1))
        shocks = 0.05 * (common * random.normal(size=2 * DAYS) + (1 - common) * random.normal(size=(12, 2 * DAYS)))
        days = [loads(each, every="1D", user=f"m{n}") for n, each in enumerate((levels + shocks).clip(0, 1))]
        frame = pd.concat(days).sort_index(kind="stable")
        half = len(frame) // 2
        found.append(compare(frame.iloc[:half], frame.iloc[half:])["p_value"].iloc[0] < 0.05)
    assert np.mean(found) <= 0.1


def test_two_hosts_are_compared_at_the_same_times() -> None:
    together = 0.2 * np.clip(noise(0.5, 1, DAYS * 24)[0], -2, 2)
    first = loads((0.5 + 0.1 * together).clip(0, 1), user="a")
    second = loads((0.53 + 0.1 * together).clip(0, 1), user="b")
    [row] = compare(first, second).to_dict("records")
    assert row["unit"] == "blocks"
    assert row["p_value"] < 1e-6 and row["upper"] - row["lower"] < 0.001


def test_a_few_hosts_on_one_side_are_too_little() -> None:
    first = pd.concat([loads(noise(0.5, 1, 240)[0].clip(0, 1), user=f"a{n}") for n in range(3)])
    second = pd.concat([loads(noise(0.5, 1, 240)[0].clip(0, 1), user=f"b{n}") for n in range(9)])
    [row] = compare(first, second).to_dict("records")
    assert row["p_value"] == 1.0
    assert row["verdict"] == "too little to compare: at least 4 hosts on both sides are needed"


def test_intervals_of_shares_stay_between_minus_one_and_one() -> None:
    flips = loads(np.array([0.0, 1.0, 0.0, 1.0]))
    hosts = {side: pd.concat([loads(np.array([n % 2.0]), user=f"{side}{n}") for n in range(4)]) for side in "ab"}
    for first, second in ((flips, flips.set_axis(flips.index + pd.Timedelta(days=9))), (hosts["a"], hosts["b"])):
        answer = compare(first, second, confidence=0.999).iloc[0]
        assert (answer["lower"], answer["upper"]) == (-1, 1)


def test_two_metrics_are_not_compared() -> None:
    values = pd.DataFrame({"value": np.full(50, 0.5)}, pd.date_range("2024", periods=50, freq="1h", tz="UTC"))
    frames = {name: frame_of_values(values, metric=name) for name in ("cpuLoadAvg", "memoryUtilization", "load1m")}
    for one, other in (("cpuLoadAvg", "memoryUtilization"), ("load1m", "cpuLoadAvg")):
        with pytest.raises(FrameError, match=f"expected two frames of one metric, got {one} and {other}"):
            compare(frames[one], frames[other])
    unnamed = frames["cpuLoadAvg"].drop(columns="metric")
    unnamed.attrs = {}
    assert len(compare(unnamed, frames["cpuLoadAvg"])) == 1
    with pytest.raises(FrameError, match="got load1m and one that names none"):
        compare(frames["load1m"], unnamed)
    with pytest.raises(ValueError, match=r"confidence: expected a share in \(0, 1\)"):
        compare(unnamed, unnamed, confidence=95)


def test_large_numbers_in_a_verdict_are_written_out() -> None:
    values = np.concatenate([np.full(200, 1e6), np.full(200, 2.5e6)]) + RANDOM.normal(0, 1000, 400)
    index = pd.date_range("2024", periods=400, freq="1h", tz="UTC")
    frame = frame_of_values(pd.DataFrame({"value": values}, index), metric=RECEIVED)
    verdict = compare(frame.iloc[:200], frame.iloc[200:])["verdict"].iloc[0]
    assert "2,500,0" in verdict or "2,499," in verdict
    assert "e+0" not in verdict


def test_too_little_is_not_compared() -> None:
    frame = loads(np.full(6, 0.5))
    [row] = compare(frame.iloc[:3], frame.iloc[3:]).to_dict("records")
    assert row["p_value"] == 1.0
    assert row["verdict"].startswith("too little to compare")
    [same] = compare(frame, frame).to_dict("records")
    assert same["verdict"].startswith("no difference")
    assert (same["hedges_g"], same["cliffs_delta"]) == (0.0, 0.0)


def fleet_of(load: float, seed: int) -> pd.DataFrame:
    """60 hosts of a value each hour, at 10 %, and one that samples every 50 ms, for a week."""
    random = np.random.default_rng(seed)
    times = pd.date_range("2024-03-04", periods=7 * 24, freq="1h", tz="UTC", name="time")
    values = [(f"m{number}", 0.1 + random.uniform(-0.01, 0.01, len(times))) for number in range(60)]
    parts = [frame_of_values(pd.DataFrame({"user": user, "value": value}, times)) for user, value in values]
    often = frame_of_values(pd.DataFrame({"user": "often", "value": np.full(len(times), load)}, times))
    return pd.concat([*(part.assign(count=12) for part in parts), often.assign(count=72_000)])


def test_hosts_count_by_the_time_they_were_seen_and_not_by_their_samples() -> None:
    first, second = fleet_of(0.1, 1).drop(columns="histogram"), fleet_of(0.7, 2).drop(columns="histogram")
    [row] = compare(first, second.set_index(second.index + pd.Timedelta(days=7))).to_dict("records")
    assert row["mean_before"] == pytest.approx(0.1, abs=0.002)
    assert row["mean_after"] == pytest.approx((60 * 0.1 + 0.7) / 61, abs=0.002)
    [drowned] = compare(first, second, weight="samples").to_dict("records")
    assert drowned["mean_after"] > 0.6
    [alone] = compare(first, second.set_index(second.index + pd.Timedelta(days=7)), by="user").to_dict("records")[:1]
    assert alone["user"] == "often"
    assert alone["mean_after"] == pytest.approx(0.7)


def test_which_side_has_no_samples_is_said() -> None:
    frame = loads(np.full(6, 0.5))
    with pytest.raises(FrameError, match="got no samples of after"):
        compare(frame, frame.iloc[:0])
    with pytest.raises(FrameError, match="weight: expected one of hosts or samples"):
        compare(frame, frame, weight="cores")  # type: ignore[arg-type]


def steady(value: float, days: int) -> pd.DataFrame:
    """A load that never varies."""
    return loads(np.full(24 * days, value)).assign(var=0.0, min=value, max=value)


@pytest.mark.parametrize("days", [5, 14])
def test_loads_that_never_vary_differ_by_infinitely_many_deviations(days: int) -> None:
    for before, after in ((0.3, 0.7), (1 / 3, 2 / 3), (2 / 3, 1 / 3)):
        [row] = compare(steady(before, days), steady(after, days)).to_dict("records")
        assert row["hedges_g"] == np.copysign(np.inf, after - before)
        assert row["verdict"].endswith("a large effect")


@pytest.mark.parametrize("days", [5, 14])
def test_what_differs_by_the_rounding_of_its_sums_does_not_differ(days: int) -> None:
    [row] = compare(steady(0.1, days), steady(0.1 + 1e-15, days)).to_dict("records")
    assert (row["difference"], row["hedges_g"], row["p_value"]) == (0.0, 0.0, 1.0)
    assert row["verdict"].startswith("no difference")
