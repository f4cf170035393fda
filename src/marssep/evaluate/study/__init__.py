"""The study of the reinforcement: every variant and every control from one warm start, on the same mixtures, paired."""

from marssep.evaluate.study.running import StudyPlan, run_study
from marssep.evaluate.study.summary import add_rows, summarise
from marssep.evaluate.study.variants import VARIANTS, Variant

__all__ = ["VARIANTS", "StudyPlan", "Variant", "add_rows", "run_study", "summarise"]
