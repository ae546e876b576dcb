import pytest

from pipeline.devices import choose_device
from registry.errors import ConfigurationError, RequestRefusedError
from worker.steps.prepare import find_device


def test_a_device_that_is_not_there_is_a_wrong_setting_of_the_process_and_refuses_the_worker_s_job() -> None:
    with pytest.raises(ConfigurationError, match="PAINTBOX_DEVICE is cuda:64, but this process sees"):
        choose_device("cuda:64")
    with pytest.raises(RequestRefusedError, match="PAINTBOX_DEVICE is cuda:64") as refusal:
        find_device("cuda:64")
    assert refusal.value.code == "device_missing"


def test_the_cpu_is_always_there() -> None:
    assert choose_device("cpu").type == "cpu"
