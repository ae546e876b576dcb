"""Data sets, jobs, versions and reports as tables."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from paintbox_client.display import describe_job, print_note, print_table, print_text, print_warning
from paintbox_client.records import JsonObject

_SHOWN_EXAMPLES = 3
_PARTICULARS = re.compile(r"'[^']*'?|\"[^\"]*\"?|\d[\d,]*")  # of one file
_JOB_COLUMNS = ("JOB", "KIND", "STATE", "DONE", "OF", "NAME", "OWNER")


def print_datasets(items: Iterable[JsonObject]) -> None:
    """Write a row for each data set."""
    rows = [(each["name"], each["state"], _count_classes(each), _describe_splits(each), each["id"]) for each in items]
    spare = ("CLASSES", "IMAGES")
    print_table(("NAME", "STATE", "CLASSES", "IMAGES", "DATA SET"), rows, whole=("DATA SET", "STATE"), spare=spare)


def print_dataset(item: JsonObject) -> None:
    """Print a data set with its rejected files and the pictures that occur in more than one split."""
    for line in _sum_up(item["rejected"]):
        print_note(line)
    for split, held in item["splits"].items():
        if held.get("taken_from"):
            print_note(f"{split}: {held['num_images']:,} images, taken from {held['taken_from']} of the upload.")
    found = item.get("duplicates")
    if found and found["across_splits"]:
        where = "; ".join(f"{splits}: {count:,}" for splits, count in found["by_splits"].items())
        print_note(f"Leakage: {found['across_splits']:,} images are in more than one split ({where}).")
        for example in found["examples"][:_SHOWN_EXAMPLES]:
            print_note("  " + " = ".join(f"{each['split']}: {each['file']}" for each in example["files"]))
    if found and found["with_different_labels"]:
        print_note(f"{found['with_different_labels']:,} images have more than one class.")
    _print_collected(item.get("collected"))
    _print_reading(item.get("reading"))
    print_datasets([item])
    if item.get("error"):
        print_warning(f"The upload failed: {item['error']['detail']} ({item['error']['code']})")


def print_images(items: Iterable[JsonObject]) -> None:
    """Write a row for each image of a data set."""
    rows = [(each["split"], each["row"], each["label"] or "-", each["file"]) for each in items]
    print_table(("SPLIT", "ROW", "CLASS", "FILE"), rows, whole=("SPLIT", "ROW"))


def _sum_up(rejected: Iterable[JsonObject]) -> Iterator[str]:
    """Yield a line for each kind of reason: how many files were left out, and some of them."""
    kinds: dict[str, list[JsonObject]] = defaultdict(list)
    for each in rejected:
        kinds[_PARTICULARS.sub("…", each["reason"])].append(each)
    for kind, found in kinds.items():
        count = sum(each.get("count", 1) for each in found)
        shown = ", ".join(each["file"] for each in found[:_SHOWN_EXAMPLES])
        reason = found[0]["reason"] if len(found) == 1 else kind
        yield f"Rejected: {count:,} file(s): {reason}: {shown}{' …' if count > len(found[:_SHOWN_EXAMPLES]) else ''}"


def _print_collected(collected: JsonObject | None) -> None:
    """Print where the images of a collected data set come from."""
    if collected is None:
        return
    for source in collected["sources"]:
        print_note(f"Collected: {source['num_images']:,} images of {source['split']} of {source['dataset_id']}.")
    if collected["num_left_out"]:
        print_note(f"Left out: {collected['num_left_out']:,} images that a test split of the sources has, too.")
    if collected["num_test_images_in_training"]:
        num_images = collected["num_test_images_in_training"]
        print_warning(f"{num_images:,} images of train or validation are in a test split of the sources.")


def _print_reading(reading: JsonObject | None) -> None:
    """Print how an upload was read, some of its images, and warnings."""
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
        (
            *(each["id"], each["kind"], describe_job(each), f"{each['progress']:.0%}"),
            *(_describe_subject(each), each.get("subject_name"), each.get("owner")),
        )
        for each in items
    ]
    print_table(_JOB_COLUMNS, rows, whole=("JOB",), spare=("OWNER", "OF", "DONE"))


def print_job(state: JsonObject) -> None:
    """Write one job and, if it failed, why."""
    print_jobs([state])
    for each in state.get("attempts", ()) if state["error"] else ():
        if each["cause"]:
            print_note(f"attempt {each['attempt']}: {each['cause']}: {each['detail']}")
    if state.get("log_tail") and state["error"]:
        print_note(f"Last lines of the log:\n{state['log_tail']}")
    if state["error"]:
        print_note(f"{state['error']['code']}: {state['error']['detail']}")


def print_patches(items: Iterable[JsonObject]) -> None:
    """Write a row for each patch."""
    rows = [
        (
            *(each["name"], each["job"]["status"], each["version_id"], *_summarise(each.get("summary"))),
            *(_minute(each["created_at"]), each["id"]),
        )
        for each in items
    ]
    columns = ("NAME", "STATE", "VERSION", "ALPHA", "IMPROVED", "SUPPORTED", "CREATED", "PATCH")
    print_table(columns, rows, whole=("PATCH", "STATE"), spare=("CREATED", "ALPHA", "IMPROVED", "SUPPORTED"))


def _summarise(summary: JsonObject | None) -> tuple[str | None, str | None, str | None]:
    """Return alpha and the mean changes of a finished patch; an asterisk marks a certificate."""
    if not summary:
        return None, None, None
    changes = [summary["patching_points"], summary["supported_points"]]
    patching, supported = (None if each is None else f"{each:+.1f}" for each in changes)
    return f"{summary['alpha']:g}", patching, f"{supported} certified" if summary["certified"] else supported


def print_versions(items: Iterable[JsonObject], aliases: Iterable[JsonObject] = ()) -> None:
    """Write a row for each version, with the aliases that name it."""
    named: dict[int, list[str]] = {}
    for alias in aliases:
        named.setdefault(alias["version"], []).append(alias["name"])
    rows = [
        (
            each["id"],
            each["name"],
            each["base"]["ref"],
            _describe_terms(each),
            ", ".join(each.get("tags", ())) or None,
            _minute(each["created_at"]) if "created_at" in each else None,
            ", ".join(named.get(each["id"], ["active"] if each["is_active"] else [])),
        )
        for each in items
    ]
    columns = ("VERSION", "NAME", "BASE", "COEFFICIENTS", "TAGS", "CREATED", "ALIASES")
    print_table(columns, rows, whole=("VERSION",), spare=("CREATED", "BASE", "TAGS"))


def print_version(version: JsonObject, aliases: Iterable[JsonObject]) -> None:
    """Print a version, one field per line, and its evaluation."""
    names = [each["name"] for each in aliases if each["version"] == version["id"]]
    rows = [
        ("version", version["id"]),
        ("name", version["name"]),
        ("aliases", ", ".join(names) or None),
        ("tags", ", ".join(version["tags"]) or None),
        ("base", version["base"]["ref"]),
        ("patch", version["patch_id"]),
        ("coefficients", _describe_terms(version)),
        ("created from", ", ".join(map(str, version["parents"])) or None),
        ("owner", version["owner"]),
        ("created", version["created_at"]),
        ("weights", version["weights_fingerprint"]),
    ]
    if version["deleted_at"]:
        rows.append(("in the trash since", version["deleted_at"]))
    print_table(("", ""), rows)
    measured = version["evaluation"]
    if measured is None:
        print_note("This version has not been evaluated.")
        return
    print_text(f"\nMeasured on the {measured.get('split', 'test')} splits:")
    print_table(
        ("TASK", "ROLE", "ZERO-SHOT", "PATCHED", "CHANGE"), [_measured(each) for each in measured.get("tasks", ())]
    )


def _measured(task: JsonObject) -> tuple[object, ...]:
    before, after = task.get("zero_shot"), task["patched"]
    change = None if before is None else f"{100 * (after['accuracy'] - before['accuracy']):+.1f}"
    shown = None if before is None else f"{before['accuracy']:.1%}"
    return task.get("name") or task["dataset_id"], task.get("role"), shown, f"{after['accuracy']:.1%}", change


def print_aliases(items: Iterable[JsonObject]) -> None:
    """Write a row for each alias."""
    rows = [(each["name"], each["version"], _minute(each["updated_at"])) for each in items]
    print_table(("ALIAS", "VERSION", "MOVED"), rows)


def print_bases(items: Iterable[JsonObject]) -> None:
    """Write a row for each base model; parameters in millions."""
    rows = [
        (
            each["ref"],
            each["tower"],
            each["image_size"],
            None if each["parameters"] is None else f"{each['parameters'] / 1e6:.1f} M",
            each["num_versions"],
            "yes" if each["is_loaded"] else "no",
        )
        for each in items
    ]
    print_table(("BASE", "TOWER", "SIDE", "PARAMETERS", "VERSIONS", "LOADED"), rows, spare=("TOWER",))


def print_moves(items: Iterable[JsonObject]) -> None:
    """Write a row for each move of an alias."""
    rows = [
        (
            _minute(each["at"]),
            each["from_version"],
            each["to_version"] if each["to_version"] is not None else "removed",
            each["actor"],
            f"{each['reason']} (forced)".strip() if each.get("forced") else each["reason"] or None,
        )
        for each in items
    ]
    print_table(("AT", "FROM", "TO", "BY", "REASON"), rows, whole=("AT",))


def print_new_version(version: JsonObject) -> None:
    """Print a new version and how to use it."""
    print_versions([version])
    print_how_to_activate(version["id"])


def print_selection(answer: JsonObject, names: Mapping[str, str]) -> None:
    """Print a version at another alpha and its validation scores; `names` are those of data sets by id."""
    point = answer["validation"]
    if point is not None:
        rows = [
            (names.get(task, task), f"{each['accuracy']:.1%}", each["correct"], each["total"])
            for task, each in point["tasks"].items()
        ]
        print_table(("VALIDATION", f"AT ALPHA {point['alpha']:g}", "CORRECT", "IMAGES"), rows)
    known = "" if answer["is_new"] else " (already exists)"
    number = answer["version"]["id"]
    print_text(f"Version {number}{known}, alpha {answer['alpha']:g}, {answer['profile']}: {answer['reason']}")
    print_how_to_activate(number)


def print_how_to_activate(version_id: int) -> None:
    """Print the command that serves a version."""
    print_note(f"Run `paintbox activate {version_id}` to serve it.")


def _minute(moment: str) -> str:
    """Return a moment to the minute, as people read it; the JSON has all of it."""
    return moment[:16].replace("T", " ")


def _describe_subject(job: JsonObject) -> str:
    """Return the subject of the job and, for a child job, its task."""
    part = job.get("part")
    return job["subject_id"] if part is None else f"{job['subject_id']}: {part}"


def _count_classes(dataset: JsonObject) -> int | str:
    """Return the number of classes, which older releases give as a list of names; "pool" for a pool."""
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
    """Yield the fields that are present, one per line."""
    for name, value in state.items():
        if isinstance(value, str | int | list) and name != "replicas":
            yield name, value
    for name in ("canary", "shadow"):
        follower = state[name]
        if follower["version"] is not None:
            error = f", not loaded: {follower['trouble']}" if follower["trouble"] else ""
            yield name, f"version {follower['version']}, {follower['share']:.0%} of the requests{error}"
    if state["comparison"] and state["comparison"]["agreement"] is not None:
        yield "agreement", f"{state['comparison']['agreement']:.1%} of the images compared in shadow"
    for replica in state["replicas"]:
        silent = "" if replica["is_alive"] else f", not seen since {replica['last_seen_at']}"
        yield f"replica {replica['host']}", f"version {replica['serving_version']}{silent}"
