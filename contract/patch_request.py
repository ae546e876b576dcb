"""The body of `POST /v1/patches`, and which combinations are rejected."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from contract.alpha_options import MAX_SUPPORTED, AlphaOptions
from contract.bodies import MAX_VERSION_ID, BaseRef, Body, Id, WebhookUrl
from contract.finetune_options import AnchorOptions, FinetuneOptions, StoreOptions
from contract.jobs import PriorityName
from contract.names import MAX_NAME, Name, shorten
from contract.routing import RoutingMode

MAX_TASKS, MAX_TRANSFER = 16, 64
Activation = Literal["never", "if_accepted", "if_certified"]


class PatchOptions(Body):
    """The request of a patch, without priority and webhook."""

    name: Name = Field(description="Display name: 1 to 200 characters on one line; not unique")
    routing: RoutingMode = Field(
        default="none",
        description="Which weights answer a list of labels: with `none` the patched ones, whatever the list; with "
        "`by_labels` the base answers lists without names of `tasks`, and both answer mixed lists",
    )
    base: BaseRef | None = Field(
        default=None, description="Reference of the base model to start from. Default: the installation's"
    )
    method: Literal["single", "joint", "sequential", "parallel", "instant", "auto"] = Field(
        default="single",
        description="`single` patches one task; `joint` fine-tunes once on the data of all tasks; `sequential` patches "
        "one task after the other, in the order given; `parallel` fine-tunes each from the base and adds the results; "
        "`instant` takes one task or more, changes no weights and needs seconds: a correction of the answers for the "
        "tasks' names, in closed form; `auto` starts an instant patch, which is done in seconds, then fine-tunes with "
        "anchors (drawn ones by default), and keeps the better of the two by the rule, or both together",
    )
    keep: Literal["features", "statistics"] = Field(
        default="features",
        description="With `instant` and `auto`: what the head term keeps of its images. `features`: the features of up "
        "to 4,096, most accurate; `statistics`: number, mean and scatter of each class, nothing of a single image, and "
        "at least two images in some class are needed",
    )
    extends: Id | None = Field(
        default=None,
        description="With `instant`: id of an earlier instant patch. The new head term holds its images too, of which "
        "only their stored features are needed; see `POST /v1/patches/{patch_id}/extend`",
    )
    version: int | None = Field(
        default=None,
        ge=1,
        le=MAX_VERSION_ID,
        description="With `instant`: id of the version to add the head term to; it must not have one. The report "
        "compares the result with the base. Default: the base",
    )
    forget: tuple[Name, ...] = Field(
        fail_fast=True,
        default=(),
        max_length=1000,
        description="With `extends`: classes whose images the new head term leaves out",
    )
    tasks: tuple[Id, ...] = Field(
        fail_fast=True, min_length=1, max_length=MAX_TASKS, description="Ids of the data sets to improve on"
    )
    supported: tuple[Id, ...] = Field(
        fail_fast=True,
        default=(),
        max_length=MAX_SUPPORTED,
        description="Ids of the data sets on which accuracy must not drop",
    )
    transfer: tuple[Id, ...] = Field(
        fail_fast=True,
        default=(),
        max_length=MAX_TRANSFER,
        description="Ids of data sets that take no part in the patch: their test splits are evaluated before and after "
        "it, and the report tells the difference (broad transfer)",
    )
    sampling: Literal["proportional", "balanced"] = Field(
        default="proportional",
        description="With `joint`: `proportional` draws every image, `balanced` every task with the same probability",
    )
    merge: Literal["average", "task_arithmetic", "ties", "tsv", "iso", "ace", "esm", "regmean"] = Field(
        default="task_arithmetic",
        description="With `parallel`: how the task vectors become one direction. `esm` and `regmean` look at 32 "
        "training images of each task, the others at none. With anchors `tsv` and `task_arithmetic` keep the most of "
        "what the tasks gain; `average`, the paper's, keeps the least",
    )
    coefficients: Literal["scalar", "per_task"] = Field(
        default="scalar",
        description="With `parallel`: one alpha for all tasks, or one coefficient per task, found by black-box search",
    )
    folds: int | None = Field(
        default=None,
        ge=2,
        le=10,
        description="With `single` and `joint`: number of folds, to choose alpha by cross-validation over train and "
        "validation images together. Default: no cross-validation",
    )
    finetune: FinetuneOptions = Field(default=FinetuneOptions(), description="Fine-tuning settings")
    anchors: AnchorOptions | None = Field(
        default=None,
        description="Images whose features are held in place during fine-tuning; null: none. Default: drawn ones where "
        "supported tasks are named, and with method `auto`; else none",
    )
    alpha: AlphaOptions = Field(default=AlphaOptions(), description="How alpha is chosen")
    store: StoreOptions = Field(default=StoreOptions(), description="How the task vectors are stored")
    activate: Activation = Field(
        default="never",
        description="`if_accepted` moves the alias `active` to the new version if no supported task drops by more than "
        "the rule's limits allow on the test splits either, and, with rule `certified`, the patch is certified; "
        "`if_certified` does the same and is refused without rule `certified`. The report's `activation` tells the "
        "decision. `never` leaves that to you",
    )

    @classmethod
    def of_stored(cls, fields: dict[str, Any]) -> Self:
        """Return an accepted request, perhaps of a release with other defaults or any character in names."""
        alpha = {"rule": "combined", "strategy": "grid"} | (fields.get("alpha") or {})
        then: dict[str, Any] = {"store": {"bits": 32}, "anchors": None}
        if fields.get("method") == "parallel":
            then["merge"] = "average"
        else:  # which was stored where it meant nothing, too
            fields = {name: value for name, value in fields.items() if name != "merge"}
        return cls.model_validate(then | fields | {"name": shorten(fields["name"], MAX_NAME), "alpha": alpha})

    @model_validator(mode="after")
    def _holds_features(self) -> Self:
        is_open = "anchors" not in self.model_fields_set and self.method != "instant"
        if is_open and (self.supported or self.method == "auto"):
            object.__setattr__(self, "anchors", AnchorOptions(drawn=True))
        return self

    @model_validator(mode="after")
    def _has_a_rule(self) -> Self:
        is_certifiable = self.supported and self.folds is None and self.coefficients == "scalar"
        limits = (self.alpha.max_supported_drop, self.alpha.max_mean_drop, self.alpha.confidence)
        if self.alpha.rule is None and not is_certifiable and limits != (None, None, None):
            raise ValueError(
                "limits on drops need supported tasks, and with folds or coefficients per_task rule floor: add "
                "supported tasks, or name the rule"
            )
        object.__setattr__(self, "alpha", self.alpha.resolved("certified" if is_certifiable else "combined"))
        return self

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        named = self.tasks + self.supported + self.transfer
        if len(set(named)) != len(named):
            raise ValueError("each data set may be used only once: as a task, as supported or as transfer")
        return self

    @model_validator(mode="after")
    def _fits_the_method(self) -> Self:
        if self.method == "single" and len(self.tasks) != 1:
            raise ValueError("method single patches exactly one task; joint, sequential and parallel take several")
        if self.method not in ("single", "instant", "auto") and len(self.tasks) < 2:
            raise ValueError(f"method {self.method} needs two tasks or more; single patches one")
        if self.sampling != "proportional" and self.method != "joint":
            raise ValueError(f"sampling requires method joint; {self.method} trains on one task at a time")
        if self.merge != "task_arithmetic" and self.method != "parallel":
            raise ValueError(f"merge requires method parallel; {self.method} has no task vectors to merge")
        if self.finetune.tune is not None and self.method not in ("single", "joint"):
            raise ValueError(f"tune requires method single or joint, which fine-tune once, not {self.method}")
        if self.finetune.tune is not None and self.folds is not None:
            raise ValueError("tune with folds would train n times k models: leave one of them out")
        if self.folds is not None and self.method not in ("single", "joint"):
            raise ValueError(f"folds require method single or joint; {self.method} would train every task k times")
        return self

    @model_validator(mode="after")
    def _trains_nothing_if_instant(self) -> Self:
        if self.forget and self.extends is None:
            raise ValueError("forget requires extends: name the patch whose classes are to be left out")
        if self.keep != "features" and self.method not in ("instant", "auto"):
            raise ValueError(f"keep requires method instant or auto; {self.method} makes no head term")
        if self.version is not None and self.extends is not None:
            raise ValueError("extends continues a head term on its own weights: leave version out")
        if self.method != "instant":
            if self.extends is not None:
                raise ValueError("extends requires method instant: only its terms can be continued")
            if self.version is not None:
                raise ValueError("version requires method instant: the others start from the base")
            return self
        if self.finetune != FinetuneOptions() or self.anchors is not None:
            raise ValueError("method instant trains nothing: leave finetune and anchors out, or use another method")
        if self.alpha.path != "flat" or self.alpha.max_alpha is not None:
            raise ValueError("method instant has no path by depth: leave alpha.path and alpha.max_alpha out")
        return self

    @model_validator(mode="after")
    def _has_a_path_beyond_one(self) -> Self:
        goes_beyond = self.alpha.path != "flat" or self.merge not in ("average", "task_arithmetic")
        if self.alpha.max_alpha is not None and not goes_beyond:
            raise ValueError(
                "max_alpha requires path lines, lines_paper or best, or a merge other than average and "
                "task_arithmetic; other flat paths end at 1, the fine-tuned weights"
            )
        return self

    @model_validator(mode="after")
    def _has_what_per_task_coefficients_need(self) -> Self:
        if self.coefficients == "scalar":
            return self
        if self.method != "parallel":
            raise ValueError(f"coefficients per_task require method parallel; {self.method} has one alpha")
        if self.merge not in ("average", "task_arithmetic"):
            raise ValueError(f"coefficients per_task need separate task vectors; merge {self.merge} leaves only one")
        if self.alpha.path != "flat":
            raise ValueError("coefficients per_task need path flat")
        return self

    @model_validator(mode="after")
    def _floor_limits_supported_tasks(self) -> Self:
        if self.alpha.rule != "combined" and not self.supported:
            raise ValueError(f"rule {self.alpha.rule} needs at least one supported task")
        if self.alpha.rule == "certified" and self.folds is not None:
            raise ValueError("rule certified judges the patch itself; folds judge other models: leave one of them out")
        if self.alpha.rule == "certified" and self.coefficients == "per_task":
            raise ValueError("rule certified needs coefficients scalar: it tests alphas in their order")
        if isinstance(self.alpha.max_supported_drop, dict):
            limited, supported = self.alpha.max_supported_drop.keys(), set(self.supported)
            if limited - supported:
                unknown = min(limited - supported)
                raise ValueError(f"max_supported_drop contains {unknown!r}, which is not a supported task")
            if supported - limited:
                left_out = min(supported - limited)
                raise ValueError(
                    f"max_supported_drop has no limit for {left_out!r}: limit every supported task (100: any drop)"
                )
        return self

    @model_validator(mode="after")
    def _has_a_floor_to_accept_by(self) -> Self:
        if self.activate == "if_accepted" and self.alpha.rule == "combined":
            raise ValueError(
                "activate if_accepted needs rule certified or floor, whose limits are checked before the version is "
                "activated"
            )
        if self.activate == "if_certified" and self.alpha.rule != "certified":
            raise ValueError("activate if_certified needs rule certified: name supported tasks, and no other rule")
        if self.activate == "if_certified" and self.method == "sequential":
            raise ValueError(
                "activate if_certified needs method single, joint or parallel: the certificate of a sequential patch "
                "compares its last task with the patch before it, not with the base"
            )
        return self

    @model_validator(mode="after")
    def _anchors_are_apart(self) -> Self:
        if self.anchors is None:
            return self
        if self.anchors.dataset in self.tasks:
            raise ValueError(
                "the data set of the anchors is a task to improve on, whose features must change: use another one"
            )
        if self.anchors.dataset in self.supported:
            raise ValueError("the data set of the anchors is a supported task: set anchors.supported to true instead")
        if self.anchors.dataset in self.transfer:
            raise ValueError(
                "the data set of the anchors is also in transfer, whose images must not be used: use another one"
            )
        if self.anchors.supported and not self.supported:
            raise ValueError("anchors.supported needs at least one supported task")
        return self


class PatchRequest(PatchOptions):
    """Body of `POST /v1/patches`: the patch, and how its job is run."""

    priority: PriorityName = Field(
        default="normal",
        description="Waiting jobs of a higher priority are taken first, and of one priority the oldest; `high` needs "
        "the scope `admin`",
    )
    webhook_url: WebhookUrl | None = Field(
        default=None,
        description="URL that is called when the job has ended, on a host that the operator allows; signed as in "
        "Standard Webhooks",
    )
