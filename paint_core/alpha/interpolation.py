"""A whole alpha curve from a few evaluations: features are smooth in alpha, so they are interpolated image by image.

Accuracy is a step function of alpha and interpolates badly; what the head reads is not. The un-normalised features at
a few nodes give the polynomial through them (barycentric form: Berrut and Trefethen, SIAM Review 2004), and only then
come normalisation, head and argmax. It is a polynomial in log(1 + bend * alpha), because a step near theta_0 changes
the features more than one further on (decision 10). Because the features do not depend on the head, one interpolant
answers for any alpha, rule and label set, without the model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from paint_core.alpha.curve import CurvePoint, EvaluationTask
from paint_core.errors import ConfigError, WeightsMismatchError
from paint_core.evaluation import Score, correct_answers, score_features
from paint_core.models import BaseModel

_METADATA_KEY = "paintbox_feature_curve"
_NUM_CHECKED_ALPHAS = 21

_SAME_PLACE = 1e-12
"""Nearer than this an alpha is the node: the quotient of two such distances would be rounding errors."""

BEND = 0.3
"""What interpolates best: mean 1 - cos to the true features 1.155e-5, against 1.259e-5 for 0 (decision 0010)."""


@dataclass(frozen=True, eq=False, repr=False)
class FeatureCurve:
    """The features of every image along a path, known at the nodes, interpolated between them.

    Attributes:
        nodes: K >= 2 increasing alphas.
        features: task name to float32 [K, N, D], not of unit length; rows in the order of the task's images.
        labels: task name to int64 [N], in the same order.
        heads: task name to [C, D], unit rows.
        classnames: task name to C names.
        profile: of the path's moving terms.
        bend: of the scale in which the features are a polynomial, log(1 + bend * alpha); 0 means alpha itself.
    """

    nodes: tuple[float, ...]
    features: Mapping[str, Tensor]
    labels: Mapping[str, Tensor]
    heads: Mapping[str, Tensor]
    classnames: Mapping[str, tuple[str, ...]]
    logit_scale: float
    logit_bias: float = 0.0
    profile: str = "flat"
    bend: float = BEND

    def __repr__(self) -> str:
        images = {name: len(labels) for name, labels in self.labels.items()}
        return f"FeatureCurve(profile={self.profile!r}, nodes={self.nodes}, images={images})"

    @classmethod
    def build(
        cls,
        base: BaseModel,
        at_nodes: Mapping[float, Mapping[str, Tensor]],
        tasks: Mapping[str, EvaluationTask],
        profile: str = "flat",
    ) -> FeatureCurve:
        """The curve through measured features.

        Args:
            at_nodes: alpha to task name to float32 [N, D]; at least two alphas, in any order.
            tasks: name to (head [C, D], split).

        Raises:
            ConfigError: fewer than two nodes.
        """
        if len(at_nodes) < 2:
            raise ConfigError("a curve needs features at two or more alphas: evaluate another one")
        nodes = tuple(sorted(at_nodes))
        return cls(
            nodes=nodes,
            features={name: torch.stack([at_nodes[node][name] for node in nodes]) for name in tasks},
            labels={name: images.labels for name, (_, images) in tasks.items()},
            heads={name: head for name, (head, _) in tasks.items()},
            classnames={name: images.classnames for name, (_, images) in tasks.items()},
            logit_scale=base.logit_scale,
            logit_bias=base.logit_bias,
            profile=profile,
        )

    def with_node(self, alpha: float, features: Mapping[str, Tensor]) -> FeatureCurve:
        """The curve through one more node: features float32 [N, D] for every task of the curve.

        Raises:
            ConfigError: alpha is a node already.
        """
        if alpha in self.nodes:
            raise ConfigError(f"alpha {alpha} is already a node: add another one")
        place = sum(node < alpha for node in self.nodes)
        grown = {
            name: torch.cat([stack[:place], features[name][None].to(stack.device), stack[place:]])
            for name, stack in self.features.items()
        }
        return replace(self, nodes=(*self.nodes[:place], alpha, *self.nodes[place:]), features=grown)

    def at(self, alpha: float, name: str) -> Tensor:
        """A task's features at an alpha, float32 [N, D], not of unit length; at a node the measured bits."""
        stack = self.features[name]
        if alpha in self.nodes:
            return stack[self.nodes.index(alpha)]
        numbers = barycentric_weights(self.nodes, alpha, self.bend)
        weights = torch.tensor(numbers, dtype=stack.dtype, device=stack.device)
        return (weights @ stack.flatten(1)).view(stack.shape[1:])

    def scores(
        self,
        alpha: float,
        heads: Mapping[str, Tensor] | None = None,
        labels: Mapping[str, Tensor] | None = None,
        reference: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Score]:
        """The scores at an alpha, also under heads of other label sets.

        Args:
            heads: task name to [C', D]; only these tasks are evaluated. None means all tasks under their own heads.
            labels: task name to int64 [N], indices of the rows of `heads`; a task that is missing keeps its own.
            reference: task name to bool [N], images that another model has right, to count what was lost and gained.
        """
        heads, labels, reference = heads or self.heads, {**self.labels, **(labels or {})}, reference or {}
        return {
            name: score_features(
                self.at(alpha, name),
                head,
                labels[name],
                scale=self.logit_scale,
                bias=self.logit_bias,
                reference=reference.get(name),
            )
            for name, head in heads.items()
        }

    def curve(self, alphas: Sequence[float], reference: Mapping[str, Tensor] | None = None) -> list[CurvePoint]:
        """The points at these alphas; a node is marked as measured."""
        return [
            CurvePoint(alpha, self.scores(alpha, reference=reference), alpha in self.nodes, self.profile)
            for alpha in alphas
        ]

    def correct_answers(self, alpha: float) -> dict[str, Tensor]:
        """Task name to bool [N], whether the model at an alpha is right on each image; alpha as for `scores`."""
        return {name: correct_answers(self.at(alpha, name), self.heads[name], self.labels[name]) for name in self.heads}

    def to_bytes(self) -> bytes:
        """The curve as a safetensors file; equal curves give equal bytes.

        Features are stored as float16 where that changes no task's accuracy at any of 21 alphas, else as float32.
        """
        names = sorted(self.features)
        tensors = {f"features/{name}": self._stored(name) for name in names}
        tensors |= {f"labels/{name}": self.labels[name] for name in names}
        tensors |= {f"heads/{name}": self.heads[name] for name in names}
        plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        facts = {
            "nodes": self.nodes,
            "classnames": {name: self.classnames[name] for name in names},
            "logit_scale": self.logit_scale,
            "logit_bias": self.logit_bias,
            "profile": self.profile,
            "bend": self.bend,
        }
        # One key, because safetensors writes several in an order that changes from run to run.
        return bytes(safetensors.torch.save(plain, metadata={_METADATA_KEY: json.dumps(facts, sort_keys=True)}))

    @classmethod
    def from_bytes(cls, data: bytes) -> FeatureCurve:
        """The curve that `to_bytes` stored, on the CPU.

        Raises:
            WeightsMismatchError: not such a file.
        """
        try:
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            facts = json.loads(header["__metadata__"][_METADATA_KEY])
            tensors = safetensors.torch.load(data)
            names = list(facts["classnames"])
            return cls(
                nodes=tuple(float(node) for node in facts["nodes"]),
                features={name: tensors[f"features/{name}"].float() for name in names},
                labels={name: tensors[f"labels/{name}"] for name in names},
                heads={name: tensors[f"heads/{name}"] for name in names},
                classnames={name: tuple(facts["classnames"][name]) for name in names},
                logit_scale=float(facts["logit_scale"]),
                logit_bias=float(facts["logit_bias"]),
                profile=str(facts["profile"]),
                bend=float(facts.get("bend", 0.0)),  # curves of before knew no other
            )
        except (safetensors.SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise WeightsMismatchError(f"not a stored alpha curve ({error!r}): search alpha again") from error

    def _stored(self, name: str) -> Tensor:
        half = self.features[name].half()
        if not bool(torch.isfinite(half).all()):
            return self.features[name]
        rounded = replace(self, features={name: half.float()})
        first, last = self.nodes[0], self.nodes[-1]
        heads = {name: self.heads[name]}
        for index in range(_NUM_CHECKED_ALPHAS):
            alpha = first + (last - first) * index / (_NUM_CHECKED_ALPHAS - 1)
            alpha = min(alpha, last)  # rounding must not leave the nodes
            if rounded.scores(alpha, heads)[name].correct != self.scores(alpha, heads)[name].correct:
                return self.features[name]
        return half


def barycentric_weights(nodes: Sequence[float], alpha: float, bend: float = 0.0) -> list[float]:
    """The weight of each node's value at an alpha: the Lagrange basis in barycentric form.

    Args:
        nodes: different increasing numbers.
        alpha: between the first and the last of them.
        bend: the basis is of polynomials in log(1 + bend * alpha), >= 0; 0 means in alpha.

    Returns:
        One number per node; their sum is 1, and at a node they are 1 there and 0 elsewhere.

    Raises:
        ConfigError: alpha lies outside the nodes.
    """
    if not nodes[0] <= alpha <= nodes[-1]:
        raise ConfigError(f"alpha {alpha} is outside the curve, {nodes[0]:g}..{nodes[-1]:g}: evaluate it")
    *places, here = (math.log1p(bend * number) / bend if bend else number for number in (*nodes, alpha))
    nearest = min(places, key=lambda place: abs(place - here))
    if abs(nearest - here) < _SAME_PLACE:
        return [float(place == nearest) for place in places]
    terms = [1 / (math.prod(place - other for other in places if other != place) * (here - place)) for place in places]
    total = math.fsum(terms)
    return [term / total for term in terms]
