"""/api/v1/rules: the rules in force; those that are not from files can be made, changed and deleted here."""

import asyncio
from typing import Any

import falcon
import msgspec
from falcon.asgi import Request, Response

from contract.problems import Problem
from service.alerts.repository import RuleRepository, TooMany
from service.alerts.rule_set import inhibition_faults
from service.alerts.rules import InvalidRule, Rule, parse_rule
from service.alerts.runner import Runner
from service.http import problems
from service.http.authentication import actor_of
from service.http.listing import asked_page, page_of
from service.http.problems import HTTPProblem
from service.http.requests import read_json

_JSON = "application/json"


class Rules:
    """All rules: those of files and those made here."""

    def __init__(self, repository: RuleRepository, runner: Runner) -> None:
        self._repository = repository
        self._runner = runner

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with a page of the rules by name, and where each is from."""
        limit, after = await asked_page(req)
        defined = await asyncio.to_thread(self._repository.rules)
        files = self._runner.rule_set.rules
        rules = {name: _shown(rule, "api", version) for name, (rule, version) in defined.items()}
        rules |= {name: _shown(rule, "file") for name, rule in files.items()}
        targets = {name: target.shown for name, target in self._runner.targets.items()}
        resp.content_type = _JSON
        names, behind = page_of(sorted(rules), str, after, limit)
        resp.data = msgspec.json.encode(
            {
                "rules": [rules[name] for name in names],
                "targets": targets,
                "routes": self._runner.routes,
                "problem": self._runner.reload_problem,
                "next": behind,
            }
        )


class OneRule:
    """A rule by its name."""

    def __init__(self, repository: RuleRepository, runner: Runner) -> None:
        self._repository = repository
        self._runner = runner

    async def on_get(self, req: Request, resp: Response, name: str) -> None:
        """200 with the rule and its ETag; one from a file has none."""
        rule = self._runner.rule_set.rules.get(name)
        source, version = "file", 0
        if rule is None:
            rule, version = (await asyncio.to_thread(self._repository.rules)).get(name, (None, 0))
            source = "api"
        if rule is None:
            raise HTTPProblem(falcon.HTTP_404, f"No rule is named {name!r}; GET /api/v1/rules lists them.")
        _answer(resp, rule, source, version)

    async def on_put(self, req: Request, resp: Response, name: str) -> None:
        """200 with the rule as it is now, or 201."""
        self._refuse_from_file(name)
        problems.required(req)
        rule = _parsed(await read_json(req, _JSON), name, self._runner)
        was_there = name in await asyncio.to_thread(self._repository.rules)
        version = await self._change(req, name, rule)
        resp.status = falcon.HTTP_200 if was_there else falcon.HTTP_201
        _answer(resp, rule, "api", version)

    async def on_delete(self, req: Request, resp: Response, name: str) -> None:
        """Removes the rule and resolves its alerts; answers 204."""
        self._refuse_from_file(name)
        problems.required(req)
        if name not in await asyncio.to_thread(self._repository.rules):
            raise HTTPProblem(falcon.HTTP_404, f"No rule is named {name!r}; GET /api/v1/rules lists them.")
        await self._change(req, name, None)
        resp.status = falcon.HTTP_204

    async def _change(self, req: Request, name: str, rule: Rule | None) -> int:
        def check(version: int) -> None:
            problems.check(req, version)

        try:
            version = await asyncio.to_thread(self._repository.change_rule, name, rule, actor_of(req), check)
        except TooMany as error:
            raise HTTPProblem(falcon.HTTP_409, str(error)) from None
        self._runner.reload()
        return version

    def _refuse_from_file(self, name: str) -> None:
        file = self._runner.rule_set.files.get(name)
        if file is not None:
            raise HTTPProblem(falcon.HTTP_409, f"Rule {name} stands in {file.name}; change it there.")


def _parsed(document: Any, name: str, runner: Runner) -> Rule:
    targets = runner.targets
    if isinstance(document, dict):
        document = {"name": name} | document
    try:
        rule = parse_rule(document)
    except InvalidRule as error:
        raise HTTPProblem(falcon.HTTP_422, "The rule is wrong; nothing was changed.", error.problems) from None
    known = ", ".join(targets)
    problems = [
        Problem(
            f"/targets/{place}",
            f"expected {f'one of {known}' if known else 'none, as the files of --rules have no targets'}, got {target}",
        )
        for place, target in enumerate(rule.targets)
        if target not in targets
    ]
    if fault := inhibition_faults({**runner.rules, rule.name: rule}).get(rule.name):
        problems.append(Problem("/inhibited_by", fault))
    if rule.name != name:
        problems.append(Problem("/name", f"expected {name} as in the address, got {rule.name}"))
    if problems:
        raise HTTPProblem(falcon.HTTP_422, "The rule is wrong; nothing was changed.", problems)
    return rule


def _answer(resp: Response, rule: Rule, source: str, version: int) -> None:
    if version:
        problems.tag(resp, version)
    resp.content_type = _JSON
    resp.data = msgspec.json.encode(_shown(rule, source, version))


def _shown(rule: Rule, source: str, version: int = 0) -> dict[str, Any]:
    shown = {"source": source, "rule": rule}
    return shown | ({"etag": f'"{version}"'} if version else {})
