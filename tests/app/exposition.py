"""What `promtool check metrics` looks for in a text exposition, and a little more: rules of naming and form.

After the rules of Prometheus' client_golang (`promlint`) and its naming practices.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_META = re.compile(r"# (HELP|TYPE) (\S+) (.*)")
_SAMPLE = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)(\{.*\})? (\S+)")
_ABBREVIATIONS = {"s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "m", "h", "d"}
_OTHER_UNITS = {
    "milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days", "weeks", "kilobytes", "megabytes",
    "gigabytes", "kibibytes", "mebibytes", "gibibytes", "bits", "percent", "celsius_degrees", "grams_kilo",
}  # fmt: skip
_UNITS = {"seconds", "bytes", "ratio", "images"}
_OF_TYPE = {"histogram": ("_bucket", "_count", "_sum"), "summary": ("_count", "_sum"), "counter": ("",), "gauge": ("",)}


@dataclass
class Family:
    """What an exposition says of one metric."""

    help: str | None = None
    type: str | None = None
    samples: list[tuple[str, str, float]] = field(default_factory=list)


def find_problems(text: str) -> Iterator[str]:
    """Yield a sentence for each thing in an exposition that Prometheus or its practices do not want."""
    list(text_string_to_metric_families(text))  # raises if it cannot be read
    families, stray = _read(text)
    yield from stray
    for name, family in families.items():
        yield from (f"{name}: {problem}" for problem in _problems_of(name, family))


def _read(text: str) -> tuple[dict[str, Family], list[str]]:
    families: dict[str, Family] = {}
    problems = []
    for line in filter(None, text.splitlines()):
        meta = _META.fullmatch(line)
        if meta:
            kind, name, value = meta.groups()
            family = families.setdefault(name, Family())
            if getattr(family, kind.lower()) is not None or family.samples:
                problems.append(f"{name}: second or late {kind}")
            setattr(family, kind.lower(), value)
            continue
        sample = _SAMPLE.fullmatch(line)
        if sample is None:
            problems.append(f"cannot be read: {line}")
            continue
        name, labels, value = sample[1], sample[2] or "", float(sample[3])
        owner = name if name in families else re.sub("_(bucket|count|sum)$", "", name)
        families.setdefault(owner, Family()).samples.append((name, labels, value))
    return families, problems


def _problems_of(name: str, family: Family) -> Iterator[str]:
    words = name.split("_")
    if not family.help:
        yield "no HELP"
    if family.type not in _OF_TYPE:
        yield f"type {family.type}"
        return
    if not _NAME.fullmatch(name):
        yield "not in lower snake case"
    if family.type in words:
        yield "its type in its name"
    if (family.type == "counter") != name.endswith("_total"):
        yield f"a {family.type} with such an ending"
    if name.endswith(("_count", "_sum", "_bucket")):
        yield "an ending of histograms"
    yield from (f"unit {word}" for word in words if word in _OTHER_UNITS | _ABBREVIATIONS)
    stem = words[:-1] if family.type == "counter" else words
    if stem[-1] not in _UNITS and _UNITS & set(stem) - {"images"}:
        yield "its unit is not at the end"
    if family.type == "histogram" and stem[-1] not in _UNITS:
        yield "a histogram without a unit"
    if name.endswith("_info") and any(value != 1 for _, _, value in family.samples):
        yield "an info that is not 1"
    yield from _problems_of_samples(name, family)


def _problems_of_samples(name: str, family: Family) -> Iterator[str]:
    assert family.type is not None
    allowed = {name + ending for ending in _OF_TYPE[family.type]}
    series = [sample[:2] for sample in family.samples]
    yield from (f"a sample {each}" for each, _ in series if each not in allowed)
    yield from (f"{each}{labels} twice" for each, labels in {one for one in series if series.count(one) > 1})
    for _, labels in series:
        names = re.findall(r'([A-Za-z_0-9]+)="', labels)
        yield from (f"label {label}" for label in names if not _NAME.fullmatch(label))
        if "le" in names and family.type != "histogram":
            yield "label le"
    if family.type == "histogram" and family.samples and not any('le="+Inf"' in labels for _, labels in series):
        yield "no bucket +Inf"
    if family.type == "counter" and any(value < 0 for *_, value in family.samples):
        yield "a counter below 0"
