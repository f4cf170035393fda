"""Protocols, baselines, oracles and reports: what a model is worth and how surely that is known."""

from marssep.evaluate.presence import PresenceChoice, choose_from_scores, choose_threshold, kept_gain, roc
from marssep.evaluate.protocol import EvaluateSettings, HasModel, Report, evaluate
from marssep.evaluate.results import Results, read_results
from marssep.evaluate.table import markdown

__all__ = [
    "EvaluateSettings",
    "HasModel",
    "PresenceChoice",
    "Report",
    "Results",
    "choose_from_scores",
    "choose_threshold",
    "evaluate",
    "kept_gain",
    "markdown",
    "read_results",
    "roc",
]
