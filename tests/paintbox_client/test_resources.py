"""What the client returns has the fields and types of the service's OpenAPI document, and still is a dictionary."""

import copy
import importlib
import json
import pickle
import pkgutil
from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest

from paintbox_client import resources
from paintbox_client.records import Record
from paintbox_client.resources.jobs import EventData, JobEvent
from paintbox_client.resources.patches import Patch, PatchOptions
from paintbox_client.resources.reports import PatchReport, ReportUpdate
from paintbox_client.resources.versions import Lineage
from tests.contract.stored import FIRST_LINEAGE, FIRST_REPORT
from tests.project.paths import ROOT

SCHEMAS: dict[str, Any] = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))["components"][
    "schemas"
]
OF_EVENTS = {"EventData", "JobEvent"}
SIMPLE = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}


def _records() -> Iterator[type[Record]]:
    for module in pkgutil.iter_modules(resources.__path__, "paintbox_client.resources."):
        for found in vars(importlib.import_module(module.name)).values():
            if isinstance(found, type) and issubclass(found, Record) and found.__module__ == module.name:
                yield found


def _type(schema: dict[str, Any]) -> str:
    """The annotation that a schema means."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return "str" if "enum" in SCHEMAS[name] else name
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        types = list(dict.fromkeys(map(_type, choices)))
        if "float" in types:  # to Python an integer is one, too
            types = [each for each in types if each != "int"]
        return " | ".join(sorted(types, key="None".__eq__))
    if schema["type"] == "array":
        return f"list[{_type(schema.get('items') or schema['prefixItems'][0])}]"
    if schema["type"] == "object":
        of_names = schema.get("additionalProperties") or next(iter(schema["patternProperties"].values()))
        return f"dict[str, {_type(of_names)}]"
    return SIMPLE[schema["type"]]


def _declared(record: type[Record]) -> dict[str, str]:
    """The annotations of a record and of those that it extends."""
    kinds = [each for each in reversed(record.__mro__) if issubclass(each, Record)]
    return {name: text for each in kinds for name, text in vars(each).get("__annotations__", {}).items()}


@pytest.mark.parametrize("record", [each for each in _records() if each.__name__ not in OF_EVENTS])
def test_fields_and_types_are_those_of_the_document(record: type[Record]) -> None:
    documented = {name: _type(schema) for name, schema in SCHEMAS[record.__name__]["properties"].items()}
    if record is Lineage:
        documented["request"] = "Record | None"
    if record is PatchReport:
        assert documented.pop("update") == "ReportUpdate | None"
    assert _declared(record) == documented


def test_data_of_events_has_the_fields_of_every_kind() -> None:
    of_jobs = [schema for name, schema in SCHEMAS.items() if name.endswith("Event") and name != "InstallationEvent"]
    data = {_type(event["properties"]["data"]).replace(" | None", "") for event in of_jobs}
    documented = {name: _type(schema) for each in data for name, schema in SCHEMAS[each].get("properties", {}).items()}
    assert _declared(EventData) == documented
    assert _declared(JobEvent).keys() == SCHEMAS["OtherEvent"]["properties"].keys()


def test_no_field_is_hidden_by_a_method_of_dictionaries() -> None:
    hidden = {f"{each.__name__}.{name}" for each in _records() for name in get_type_hints(each) if hasattr(dict, name)}
    assert hidden == set()  # of `PatchReport.update`, a property takes care


def test_a_report_has_attributes_through_and_through_and_is_the_dictionary_that_was_sent() -> None:
    report = PatchReport(FIRST_REPORT)
    assert report == FIRST_REPORT == json.loads(json.dumps(report))
    assert report["tasks"][0]["test"]["patched"]["accuracy"] == report.tasks[0].test.patched.accuracy == 0.9
    assert report.curve[0].tasks["ds_1"].correct == 9
    assert isinstance(report.update, ReportUpdate)
    assert (report.method, report.stages, report.interpolants) == (None, [], {})
    assert report.to_dict() == FIRST_REPORT
    assert report.to_dict()["tasks"] is not FIRST_REPORT["tasks"]
    assert repr(report).startswith("PatchReport(alpha=0.5, rule='combined', reason='the best', tasks=[1 items], ")
    with pytest.raises(AttributeError, match="no field 'colour'"):
        _ = report.colour
    with pytest.raises(AttributeError, match="cannot be set"):
        report.alpha = 1.0


def test_a_notebook_shows_a_report_as_a_table_without_its_markup() -> None:
    task = FIRST_REPORT["tasks"][0] | {"name": "<b>digits"}
    shown = PatchReport(FIRST_REPORT | {"tasks": [task]})._repr_html_()
    assert "<td>&lt;b&gt;digits</td><td>patching</td><td>90.0%</td>" in shown


def test_objects_that_may_have_several_types_and_fields_of_a_later_release() -> None:
    assert Lineage(FIRST_LINEAGE).alpha == 0.5
    later = Lineage({"alpha": {"rule": "floor"}, "request": {"name": "x"}, "colour": {"of": "paint"}})
    assert (later.alpha.rule, later.request.name, later.colour.of) == ("floor", "x", "paint")
    patch = Patch({"request": {"alpha": {"max_supported_drop": {"ds_1": 1.5}}}, "report": None})
    assert isinstance(patch.request, PatchOptions)
    assert patch.request.alpha.max_supported_drop == {"ds_1": 1.5}
    assert patch.report is None


def test_a_record_can_be_copied_and_pickled() -> None:
    report = PatchReport(FIRST_REPORT)
    for again in (copy.copy(report), copy.deepcopy(report), pickle.loads(pickle.dumps(report))):
        assert type(again) is PatchReport
        assert again == report
