"""What the command line's options mean."""

import pytest

from paintbox_client.errors import InputError
from paintbox_client.options import parse_drops, parse_factor, parse_settings


def test_a_drop_is_for_all_or_for_each_by_id() -> None:
    assert parse_drops(None) is None
    assert parse_drops(["2.5"]) == 2.5
    assert parse_drops(["ds_1=1", "ds_2=0"]) == {"ds_1": 1.0, "ds_2": 0.0}


@pytest.mark.parametrize("values", [["two"], ["1", "2"], ["ds_1=1", "2"], ["=1"], ["ds_1="]], ids=str)
def test_a_drop_that_is_not_clear_is_refused(values: list[str]) -> None:
    with pytest.raises(InputError, match="--max-drop"):
        parse_drops(values)


def test_a_factor_is_one_where_none_is_given() -> None:
    assert parse_factor("pt_1") == ("pt_1", 1.0)
    assert parse_factor("pt_1=-0.5") == ("pt_1", -0.5)
    with pytest.raises(InputError, match="half"):
        parse_factor("pt_1=half")


def test_names_may_have_an_equals_sign() -> None:
    assert parse_drops(["a=b=1.5"]) == {"a=b": 1.5}
    assert parse_factor("a=b=2") == ("a=b", 2.0)


def test_settings_reach_into_the_body_and_leave_the_given_one_alone() -> None:
    request = {"name": "p", "alpha": {"rule": "floor"}}
    body = parse_settings(request, ["alpha.grid_step=0.1", "finetune.precision=bf16", "anchors.supported=true"])
    assert body == {
        "name": "p",
        "alpha": {"rule": "floor", "grid_step": 0.1},
        "finetune": {"precision": "bf16"},
        "anchors": {"supported": True},
    }
    assert request == {"name": "p", "alpha": {"rule": "floor"}}


@pytest.mark.parametrize("setting", ["alpha", "=1", "alpha.=1", ".rule=1", "name.first=x"])
def test_a_setting_that_leads_nowhere_is_refused(setting: str) -> None:
    with pytest.raises(InputError, match="--set"):
        parse_settings({"name": "p"}, [setting])
