"""How data sets, jobs, versions and reports look as tables."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from paintbox_client.client import JsonObject
from paintbox_client.display import describe_job, print_note, print_table, print_text

_SHOWN_EXAMPLES = 3
_PARTICULARS = re.compile(r"'[^']*'?|\"[^\"]*\"?|\d[\d,]*")  # of one file
_JOB_COLUMNS = ("JOB", "KIND", "OF", "DONE", "STATE")


def print_datasets(items: Iterable[JsonObject]) -> None:
    """Write a row for each data set."""
    rows = [(each["id"], each["name"], each["state"], _count_classes(each), _describe_splits(each)) for each in items]
    print_table(("DATA SET", "NAME", "STATE", "CLASSES", "IMAGES"), rows)


def print_dataset(item: JsonObject) -> None:
    """Write one data set, and what its owner should know of it: files left out, pictures in more than one split."""
    for line in _sum_up(item["rejected"]):
        print_note(line)
    for split, held in item["splits"].items():
        if held.get("taken_from"):
            print_note(f"{split}: {held['num_images']:,} images, taken from {held['taken_from']} of the upload.")
    found = item.get("duplicates")
    if found and found["across_splits"]:
        where = "; ".join(f"{splits}: {count:,}" for splits, count in found["by_splits"].items())
        print_note(f"Leakage: {found['across_splits']:,} pictures are in more than one split ({where}).")
        for example in found["examples"][:_SHOWN_EXAMPLES]:
            print_note("  " + " = ".join(f"{each['split']}: {each['file']}" for each in example["files"]))
    if found and found["with_different_labels"]:
        print_note(f"{found['with_different_labels']:,} pictures are there under more than one class.")
    _print_reading(item.get("reading"))
    print_datasets([item])


def _sum_up(rejected: Iterable[JsonObject]) -> Iterator[str]:
    """Yield a line for each kind of reason: how many files were left out, and some of them."""
    kinds: dict[str, list[JsonObject]] = defaultdict(list)
    for each in rejected:
        kinds[_PARTICULARS.sub("…", each["reason"])].append(each)
    for kind, found in kinds.items():
        count = sum(each.get("count", 1) for each in found)
        shown = ", ".join(each["file"] for each in found[:_SHOWN_EXAMPLES])
        reason = found[0]["reason"] if len(found) == 1 else kind
        yield f"Left out: {count:,} file(s): {reason}: {shown}{' …' if count > len(found[:_SHOWN_EXAMPLES]) else ''}"


def _print_reading(reading: JsonObject | None) -> None:
    """Write how an upload was read, some of its images and what to look at."""
    if reading is None:
        return
    below = f", below {reading['root']}" if reading["root"] else ""
    print_note(f"Read as {reading['summary']}{below}.")
    for example in reading["examples"][:_SHOWN_EXAMPLES]:
        print_note(f"  {example['file']}: {example['label']} ({example['split']})")
    for warning in reading["warnings"]:
        print_note(f"Warning: {warning['detail']}")


def print_jobs(items: Iterable[JsonObject]) -> None:
    """Write a row for each job."""
    rows = [
        (each["id"], each["kind"], _describe_subject(each), f"{each['progress']:.0%}", describe_job(each))
        for each in items
    ]
    print_table(_JOB_COLUMNS, rows)


def print_job(state: JsonObject) -> None:
    """Write one job and, if it failed, why."""
    print_jobs([state])
    for each in state.get("attempts", ()) if state["error"] else ():
        if each["cause"]:
            print_note(f"attempt {each['attempt']}: {each['cause']}: {each['detail']}")
    if state.get("log_tail") and state["error"]:
        print_note(f"The last lines of its log:\n{state['log_tail']}")
    if state["error"]:
        print_note(f"{state['error']['code']}: {state['error']['detail']}")


def print_versions(items: Iterable[JsonObject]) -> None:
    """Write a row for each version."""
    rows = [
        (each["id"], each["name"], each["base"]["ref"], _describe_terms(each), "active" if each["is_active"] else "")
        for each in items
    ]
    print_table(("VERSION", "NAME", "BASE", "COEFFICIENTS", ""), rows)


def print_new_version(version: JsonObject) -> None:
    """Write a version that was made just now, and how to use it."""
    print_versions([version])
    _print_how_to_activate(version["id"])


def print_report(done: JsonObject) -> None:
    """Write a finished patch: a row for each task, the version and how alpha was chosen."""
    report = done["report"]
    rows = []
    others = [{**task, "role": "transfer"} for task in report.get("transfer", ())]
    for task in [*report["tasks"], *others]:
        scores = task["test"] or task["validation"]
        accuracies = (f"{scores[at]['accuracy']:.1%}" for at in ("zero_shot", "fine_tuned", "patched"))
        rows.append((task["name"], task["role"], *accuracies, scores["patched"]["total"]))
    print_table(("TASK", "ROLE", "ZERO-SHOT", "FINE-TUNED", "PATCHED", "IMAGES"), rows)
    *earlier, last = report.get("stages") or [report]
    for stage in earlier:
        print_text(f"Before it {stage['key']}, {_describe_choice(stage)}")
    print_text(f"Version {report['version_id']}, {_describe_choice(last)}")
    _print_how_to_activate(report["version_id"])


def _describe_choice(stage: JsonObject) -> str:
    """Return alpha and why, or the coefficients where a search found one for each task."""
    found = stage.get("coefficients")
    if found:
        return "coefficients " + ", ".join(f"{each:g}" for each in found["coefficients"])
    return f"alpha {stage['alpha']:g}: {stage['reason']}"


def print_selection(answer: JsonObject) -> None:
    """Write a version at another alpha, and what validation images say about it."""
    point = answer["validation"]
    if point is not None:
        rows = [
            (name, f"{each['accuracy']:.1%}", each["correct"], each["total"]) for name, each in point["tasks"].items()
        ]
        print_table(("VALIDATION", f"AT ALPHA {point['alpha']:g}", "CORRECT", "IMAGES"), rows)
    known = "" if answer["is_new"] else " (it was there already)"
    number = answer["version"]["id"]
    print_text(f"Version {number}{known}, alpha {answer['alpha']:g}, {answer['profile']}: {answer['reason']}")
    _print_how_to_activate(number)


def _print_how_to_activate(version_id: int) -> None:
    print_note(f"`paintbox activate {version_id}` lets it answer.")


def _describe_subject(job: JsonObject) -> str:
    """Return what the job is about, and which part of that it does, if not all of it."""
    part = job.get("part")
    return job["subject_id"] if part is None else f"{job['subject_id']}: {part}"


def _count_classes(dataset: JsonObject) -> int | str:
    """Return the number of classes, which services of older releases tell by naming them; of a pool, that it is one."""
    if dataset.get("kind") == "pool":
        return "pool"
    return int(dataset["num_classes"] if "num_classes" in dataset else len(dataset["classnames"]))


def _describe_splits(dataset: JsonObject) -> str:
    return ", ".join(f"{name} {split['num_images']:,}" for name, split in dataset["splits"].items()) or "-"


def _describe_terms(version: JsonObject) -> str:
    return ", ".join(map(_describe_term, version["terms"])) or "-"


def _describe_term(term: JsonObject) -> str:
    return f"{term['coefficient']:g}" + ("" if term["profile"] == "flat" else f" ({term['profile']})")


def describe_system(state: JsonObject) -> Iterator[tuple[str, object]]:
    """Yield what there is to tell, a line each; what is not there is left out."""
    for name, value in state.items():
        if isinstance(value, str | int | list) and name != "replicas":
            yield name, value
    for name in ("canary", "shadow"):
        beside = state[name]
        if beside["version"] is not None:
            trouble = f", not loaded: {beside['trouble']}" if beside["trouble"] else ""
            yield name, f"version {beside['version']}, {beside['share']:.0%} of the requests{trouble}"
    if state["comparison"] and state["comparison"]["agreement"] is not None:
        yield "agreement", f"{state['comparison']['agreement']:.1%} of the images that the shadow was asked too"
    for replica in state["replicas"]:
        silent = "" if replica["is_alive"] else f", silent since {replica['last_seen_at']}"
        yield f"replica {replica['host']}", f"version {replica['serving_version']}{silent}"
