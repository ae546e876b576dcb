"""Errors in the words of the command line: options in place of fields and headers, commands in place of routes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from paintbox_client.errors import ApiError, ClientError, InputError, ServiceUnreachableError

EXIT_REFUSED, EXIT_USAGE, EXIT_UNREACHABLE, EXIT_UNCHANGED = 1, 2, 3, 4

_OPTIONS = {
    "tasks": "--task",
    "supported": "--supported",
    "alpha.max_supported_drop": "--max-drop",
    "alpha.max_mean_drop": "--max-mean-drop",
    "alpha.confidence": "--confidence",
    "max_supported_drop": "--max-drop",
    "alpha.rule": "--rule",
    "alpha.strategy": "--strategy",
    "alpha.path": "--path",
    "anchors.dataset": "--anchors",
    "anchors.supported": "--anchor-supported",
    "anchors.weight": "--anchor-weight",
    "finetune.iterations": "--iterations",
    "finetune.learning_rate": "--learning-rate",
    "finetune.batch_size": "--batch-size",
    "finetune.seed": "--seed",
    "webhook_url": "--webhook",
    "candidate_labels": "--label",
    "label_set": "--label-set",
    "templates": "--template",
    "classnames": "--classname",
    "expires_in_days": "--expires",
    "scopes": "--scope",
    **{
        name: f"--{name.replace('_', '-')}"
        for name in (
            *("name", "base", "method", "sampling", "merge", "coefficients", "folds", "rule", "strategy", "activate"),
            *("priority", "manifest", "profile", "threshold", "multi_label", "top_k", "reason", "limit", "dataset"),
            *("max_mean_drop", "confidence"),
        )
    },
}
"""Command line options by the fields that they set; other fields are set with `--set`."""

_WORDS = (
    (re.compile(r"; see the schema at /docs\.?$"), ""),
    (re.compile(r"\brule (combined|floor|certified)\b"), r"--rule \1"),
    (re.compile(r"\bmethod (single|joint|sequential|parallel)\b"), r"--method \1"),
    (re.compile(r"\bactivate (if_accepted|if_certified)\b"), r"--activate \1"),
    (re.compile(r"\bmax_supported_drop\b"), "--max-drop"),
    (re.compile(r"\bmax_mean_drop\b"), "--max-mean-drop"),
    (re.compile(r"\bset anchors\.supported to true\b|\banchors\.supported\b"), "--anchor-supported"),
    (re.compile(r"\bneeds at least one supported task$"), "needs at least one --supported"),
    (re.compile(r"\bwith folds or coefficients per_task\b"), "with --folds or --coefficients per_task"),
    (re.compile(r"\badd supported tasks, or name the rule$"), "add --supported, or name the rule with --rule"),
)
_GIVE_A_KEY = "Pass a key with --api-key before the command, or in PAINTBOX_API_KEY."
_ADVICE = {
    **dict.fromkeys(("unauthorised", "key_expired", "key_revoked"), _GIVE_A_KEY),
    "not_evaluated": "Measure it and the base with `paintbox evaluate BASE VERSION --dataset NAME`, or activate it "
    "with --force --reason TEXT.",
    "supported_drop": "Choose another alpha with `paintbox reselect`, or activate it with --force --reason TEXT.",
    "job_quota": "Wait, or cancel one: list jobs with `paintbox jobs --status queued --status running`.",
    "dataset_in_use": "Delete those patches and evaluations first, or add --force.",
    "dataset_not_ready": "Check its state with `paintbox datasets`; show the error with `paintbox dataset NAME`.",
    "model_not_loaded": "See `paintbox system` for details, or serve another version with `paintbox activate VERSION`.",
}
_OF_FIELDS = "See `paintbox {command} --help` for the options."


def status_of(error: ClientError) -> int:
    """Return the exit status: 1 rejected or failed, 2 wrong usage, 3 no service responds."""
    if isinstance(error, ServiceUnreachableError):
        return EXIT_UNREACHABLE
    is_usage = isinstance(error, InputError) or (isinstance(error, ApiError) and error.code == "invalid_request")
    return EXIT_USAGE if is_usage else EXIT_REFUSED


def describe(error: ClientError, command: str) -> tuple[str, str]:
    """Return what is wrong and what to do next, in the words of the command line and of the given command."""
    if not isinstance(error, ApiError):
        return error.detail, error.next
    if error.code == "invalid_request":
        fields = error.fields or (error.summary,)
        return "\n  ".join(_translate(field) for field in fields), _OF_FIELDS.format(command=command)
    return error.detail, _ADVICE.get(error.code, error.next)


def as_json(error: ClientError, command: str) -> dict[str, Any]:
    """Return the document that programs read: the error's code and status, with the command line's words."""
    detail, advice = describe(error, command)
    return {"error": error.as_json() | {"detail": detail, "next": advice, "exit_status": status_of(error)}}


def command_of(arguments: Sequence[str]) -> str:
    """Return the command in the arguments; empty if there is none."""
    skipped = False
    for argument in arguments:
        if skipped:
            skipped = False
        elif argument.startswith("-"):
            skipped = argument in ("--url", "--api-key", "--timeout", "--patience")
        else:
            return argument
    return ""


def _translate(field: str) -> str:
    """Return `--rule: …` for `body.alpha.rule: …`; a message that names its options needs no place."""
    place, separator, message = field.partition(": ")
    if not separator:
        return field
    for pattern, words in _WORDS:
        message = pattern.sub(words, message)
    names = re.sub(r"^(body|query|path|header)\.?", "", place)
    option = _OPTIONS.get(names) or _OPTIONS.get(re.sub(r"\.[0-9]+$", "", names))
    if option is None and message.startswith("--"):
        return message
    return f"{option or (f'--set {names}' if names else 'The request')}: {message}"
