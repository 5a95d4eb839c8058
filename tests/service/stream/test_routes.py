"""Every report goes to those channels, and only those, whose subscription takes its user and operating system."""

from hypothesis import given
from hypothesis import strategies as st

from service.stream.channels import Channel, Routes
from service.stream.subscription import Subscription

ORIGINS = [(user, system) for user in ("a", "b", "ab", "[a]") for system in ("Linux", "MacOS", "Windows")]
SUBSCRIPTIONS = st.builds(
    Subscription,
    users=st.lists(st.sampled_from(["a", "b", "ab", "[a]", "nobody", "a*", "?b", "*"]), min_size=1, unique=True).map(
        tuple
    ),
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
