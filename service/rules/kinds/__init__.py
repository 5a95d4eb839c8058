"""How each kind of rule is evaluated: one class for each, fed with windows in the order of the journal."""

from collections.abc import Callable
from typing import Any

from service.rules.kinds.absence import AbsenceEvaluation
from service.rules.kinds.anomaly import AnomalyEvaluation
from service.rules.kinds.base import Evaluation
from service.rules.kinds.change import ChangeEvaluation
from service.rules.kinds.fleet import FleetEvaluation
from service.rules.kinds.threshold import ThresholdEvaluation
from service.rules.model import Absence, Anomaly, Change, Fleet, Rule, Threshold

__all__ = ["Evaluation", "evaluation_of"]

_KINDS: dict[type[Rule], Callable[[Any], Evaluation]] = {
    Threshold: ThresholdEvaluation,
    Change: ChangeEvaluation,
    Absence: AbsenceEvaluation,
    Fleet: FleetEvaluation,
    Anomaly: AnomalyEvaluation,
}


def evaluation_of(rule: Rule) -> Evaluation:
    """The evaluation of a rule's kind, without any alarm yet."""
    return _KINDS[type(rule)](rule)
