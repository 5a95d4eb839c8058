"""Making reports: what is said where one takes too long."""

import asyncio

from service.reporting.maker import ReportMaker
from service.reporting.worker import ReportRefused, ReportRequest


def test_a_report_that_takes_too_long_is_given_up_with_what_helps() -> None:
    async def asked() -> None:
        maker = ReportMaker(patience_s=0.01)
        made = await maker.report(ReportRequest(user_id=None, form="html"), "127.0.0.1:1", None)
        assert isinstance(made, ReportRefused)
        assert made.status == 503
        assert "more than 0.01 s" in made.detail
        assert "shorter range" in made.detail
        await asyncio.sleep(0)
        assert (maker.made, maker.failures, maker.waiting) == (0, 1, 0)

    asyncio.run(asked())
