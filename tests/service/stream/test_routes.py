"""Every report goes to those channels, and only those, whose subscription takes its user and operating system."""

from hypothesis import given
from hypothesis import strategies as st

from contract.report import decode_report
from service.stream.channels import Channel, Routes
from service.stream.subscription import Subscription, parse_subscription
from tests.support.reports import END_MS, as_json, small

ORIGINS = [(user, system) for user in ("a", "b", "ab", "[a]") for system in ("Linux", "MacOS", "Windows")]
USERS = ["a", "b", "ab", "[a]", "nobody", "a*", "?b", "*", "role=web"]
SUBSCRIPTIONS = st.builds(
    Subscription,
    users=st.lists(st.sampled_from(USERS), min_size=1, unique=True).map(tuple),
    systems=st.lists(st.sampled_from(["Linux", "MacOS"]), unique=True).map(tuple),
)


@given(st.lists(st.tuples(SUBSCRIPTIONS, st.booleans(), st.sampled_from(ORIGINS)), max_size=12))
def test_a_report_goes_to_the_channels_that_take_it_whoever_comes_and_goes(
    steps: list[tuple[Subscription, bool, tuple[str, str]]],
) -> None:
    routes = Routes()
    channels: list[Channel] = []
    for subscription, goes, asked in steps:
        channels.append(Channel(subscription, "events"))
        routes.add(channels[-1])
        # What was asked for before somebody came or went must be right afterwards too.
        routes.find(asked)
        if goes:
            routes.remove(channels.pop(0))
        for origin in ORIGINS:
            wanted = [one for one in channels if one.subscription.takes_origin(*origin)]
            found = routes.find(origin)
            assert len(found) == len(wanted)
            assert all(one in found for one in wanted)


def test_labels_choose_reports_that_say_them() -> None:
    subscription, problems = parse_subscription({"user": ["role=web,zone=e*", "db-*"]})
    assert not problems
    assert not subscription.is_static and subscription.needs_report
    labels = [{"role": "web", "zone": "eu"}, {"role": "web"}, {"role": "web", "zone": "us"}, None]
    hosts = [*(("web-1", one) for one in labels), ("db-1", None), ("role=web,zone=e*", None)]
    said = [
        decode_report(as_json(small(user, END_MS, **({} if one is None else {"labels": one})))) for user, one in hosts
    ]
    assert all(subscription.takes_origin(user, "Linux") for user, _ in hosts)
    assert [subscription.takes(report) for report in said] == [True, False, False, False, True, True]
    channel, routes = Channel(subscription, "lines"), Routes()
    routes.add(channel)
    assert routes.find(("web-1", "Linux")) == [channel]
    routes.remove(channel)
    assert routes.find(("web-1", "Linux")) == []
