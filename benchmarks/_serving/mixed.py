"""Which version's weights answered, told from the scores: an answer must come from the version that it names."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

TOLERANCE = 0.002
"""How far a cosine may be off: batches of other sizes add up in another order, which moves it by less than 0.00001."""

Cosines = Mapping[str, float]


class Judge:
    """Compares answers about known photographs with what each version says of them.

    Args:
        expected: By the version's id as text, the cosines by label of each photograph.

    Raises:
        ValueError: Two versions cannot be told apart on some photograph.
    """

    def __init__(self, expected: Mapping[str, Sequence[Cosines]]) -> None:
        self._expected = expected
        self.verdicts: Counter[str] = Counter()
        versions = list(expected.values())
        for one, other in pairwise(versions):
            for index, (cosines, others) in enumerate(zip(one, other, strict=True)):
                if distance(cosines, others) < 3 * TOLERANCE:
                    raise ValueError(f"photograph {index} does not tell the versions apart")

    def look(self, index: int, body: bytes) -> None:
        """Count an answer about one photograph as `right`, or as `mixed` if other weights made it than it says."""
        answer = json.loads(body)
        cosines = {each["label"]: each["cosine"] for each in answer["results"][0]["predictions"]}
        said = self._expected.get(str(answer["version"]))
        is_right = said is not None and distance(cosines, said[index]) <= TOLERANCE
        self.verdicts["right" if is_right else "mixed"] += 1
        self.verdicts[f"version {answer['version']}"] += 1


def distance(one: Cosines, other: Cosines) -> float:
    """Return the largest difference of a label's cosine; infinite if the labels differ."""
    if one.keys() != other.keys():
        return float("inf")
    return max(abs(one[label] - other[label]) for label in one)
