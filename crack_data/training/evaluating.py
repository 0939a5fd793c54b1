"""Metrics of a model on the test sets of a config."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper

from ..errors import CrackError

Results = dict[str, dict[str, float]]


def with_means(results: OrderedDict[str, Any], names: Sequence[str]) -> OrderedDict[str, Any]:
    """Add the mean over data sets of each metric that all of them have, as of a single set."""
    if len(names) > 1:
        results.update(_means([results[name] for name in names]))
    return results


def _means(results: list[Results]) -> Results:
    means: Results = {}
    for task, first in results[0].items():
        others = [result.get(task, {}) for result in results]
        shared = [name for name in first if all(name in other for other in others)]
        means[task] = {name: sum(o[name] for o in others) / len(others) for name in shared}
    return means


class EvaluationMapper:
    """Detectron2's mapper for evaluation; says which photo cannot be read."""

    def __init__(self, cfg: CfgNode) -> None:
        self.mapper = DatasetMapper(cfg, is_train=False)

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Map a record of the data set.

        Raises:
            CrackError: its photo cannot be decoded, or has another size than annotated.
        """
        try:
            return self.mapper(record)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise CrackError(
                f"photo {record['file_name']} of DATASETS.TEST cannot be read ({reason}); mend or "
                "remove it"
            ) from error
