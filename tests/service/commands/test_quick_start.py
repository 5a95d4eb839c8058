"""What a person is told to copy works where it is pasted."""

from contract.service_address import SERVICE_URL
from service.commands import quick_start


def test_the_address_is_told_where_other_programs_would_not_find_it() -> None:
    assert quick_start.other_programs(SERVICE_URL) == []
    told = quick_start.other_programs("http://localhost:9000/monitoring")
    assert told[-1].strip() == "export LOADLENS_URL=http://localhost:9000/monitoring"
