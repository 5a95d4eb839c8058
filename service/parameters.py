"""The parameters of a question: members of the query string, or of a JSON body on GET."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import falcon
import msgspec
from falcon.asgi import Request

from contract.decoding import decode_json
from contract.problems import Problem, did_you_mean
from contract.times import parse_duration
from service.bodies import read_body
from service.problems import ProblemError, invalid

__all__ = ["Parameters", "duration"]


class Parameters:
    """What a request asks, taken one by one; what is wrong is gathered, and told all at once by `check`."""

    def __init__(self, values: Mapping[str, Any], prefix: str) -> None:
        self._values = values
        self._prefix = prefix
        self._problems: list[Problem] = []

    @classmethod
    async def read(cls, req: Request, names: tuple[str, ...]) -> Self:
        """Those of a request. Raises ProblemError: 422 for others than `names`, 400 for a body that is no object."""
        body = await read_body(req) if req.content_length or req.get_header("Transfer-Encoding") else b""
        if body.strip():
            try:
                return cls(decode_json(body, dict[str, Any]), "/")
            except msgspec.DecodeError as error:
                raise ProblemError(
                    falcon.HTTP_400,
                    f'The body is not a JSON object such as {{"start": "2018-07-12T12:15:00Z"}}: {error}',
                ) from None
        for name, value in req.params.items():
            if name not in names:
                raise invalid(name, f"expected one of {', '.join(names)}, got {name}{did_you_mean(name, names)}")
            if not isinstance(value, str):
                raise invalid(name, "is given more than once")
        return cls({name: value for name, value in req.params.items() if value}, "")

    def take(self, name: str, convert: Callable[[Any], Any], default: Any) -> Any:
        """The value of a parameter, `default` where it is not given or where `convert` raises ValueError."""
        value = self._values.get(name)
        if value is None:
            return default
        try:
            return convert(value)
        except ValueError as error:
            self.refuse(name, str(error))
            return default

    def refuse(self, name: str, detail: str) -> None:
        """Say what would be right for a parameter."""
        self._problems.append(Problem(self._prefix + name, detail))

    @property
    def refused(self) -> bool:
        """Whether anything is wrong so far."""
        return bool(self._problems)

    def check(self) -> None:
        """Raise ProblemError 422 if anything is wrong."""
        if self._problems:
            raise ProblemError(falcon.HTTP_422, "The query is invalid.", self._problems)


def duration(value: Any) -> int:
    """The milliseconds of a duration such as `15m`; raises ValueError for anything else."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a duration; a text such as 15m is right")
    return parse_duration(value)
