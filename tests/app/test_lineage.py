"""What versions were made from, how accurate they are, and the base models."""

import re

from app.versions.service import list_versions
from app.web.lineage import Track, draw_lineage, draw_tracks, track_accuracies
from registry.tables import DatasetRow
from tests.app.patched import TOTAL, add_patch
from tests.app.test_comparing import compose, measure
from tests.app.world import World, add_ready_dataset


def test_versions_are_found_by_what_they_were_made_from(world: World) -> None:
    patched = add_patch(world, seeds=(1,), alpha=0.5)
    child = compose(world, {"version": patched.version, "coefficient": 0.8})
    grandchild = compose(world, {"version": child, "coefficient": 0.5})
    for parent, children in ((patched.version, [child]), (child, [grandchild]), (grandchild, []), (10**6, [])):
        found = world.client.get("/v1/versions", params={"parent": parent}).json()["items"]
        assert [each["id"] for each in found if each["id"] >= patched.version] == children
    page = world.client.get(f"/ui/versions/{child}").text
    for related in (patched.version, grandchild):
        assert f'<a href="/ui/versions/{related}">' in page
        assert f">version {related}</text>" in page


def test_accuracies_are_of_one_split_and_of_at_least_two_versions(world: World) -> None:
    dataset = add_ready_dataset(world.services, ["pizza", "taco", "sushi"])
    alone = add_ready_dataset(world.services, ["pizza", "taco", "sushi"])
    first = compose(world, {"version": add_patch(world, seeds=(5,)).version, "coefficient": 0.7})
    second = compose(world, {"version": first, "coefficient": 0.5})
    for version, correct in ((first, 30), (second, 60)):
        measure(world, version, [0] * correct + [1] * (TOTAL - correct), dataset)
    measure(world, second, [0] * TOTAL, alone)
    measure(world, first, [0] * TOTAL, dataset, own=False)
    with world.services.database.read() as session:
        row = session.get(DatasetRow, dataset)
        assert row is not None
        name = row.name
    versions = list_versions(world.services.database, 50, None).items
    assert Track(name, "test", [(first, 0.3), (second, 0.6)]) in track_accuracies(world.services.database, versions)
    assert not any(track.points == [(second, 1.0)] for track in track_accuracies(world.services.database, versions))
    page = world.client.get("/ui/versions").text
    assert f'<a href="/ui/versions/{second}">{second}</a>: 60.0 %' in page


def test_the_drawing_of_accuracies_has_a_line_for_each_data_set() -> None:
    assert draw_tracks([]) is None
    drawing = draw_tracks([Track("<b>", "test", [(2, 0.0), (7, 1.0)]), Track("b", "test", [(7, 0.5), (9, 0.5)])])
    points = [[point.split(",") for point in line.split()] for line in re.findall(r'points="([^"]*)"', str(drawing))]
    (left, low), (middle, high) = [[float(each) for each in point] for point in points[0]]
    assert (left < middle, low > high) == (True, True)
    assert float(points[1][0][0]) == middle
    assert "<b>" not in str(drawing)


def test_the_drawing_of_a_lineage_goes_from_the_base_to_the_right() -> None:
    assert draw_lineage(2, {2: []}, "starter") is None
    drawing = str(draw_lineage(4, {2: [], 3: [], 4: [2, 3], 5: [4]}, "<script>"))
    places = {text: float(x) for x, text in re.findall(r'<text x="([\d.]+)"[^>]*>([^<]*)<', drawing)}
    assert places["&lt;script&gt;"] < places["version 2"] == places["version 3"] < places["version 4"]
    assert places["version 4"] < places["version 5"]
    assert drawing.count("<line") == 5
    assert drawing.count("marked") == 1


def test_the_base_models_are_listed_with_what_a_patch_of_them_would_do(world: World) -> None:
    (base,) = world.client.get("/v1/bases").json()["items"]
    assert (base["ref"], base["fingerprint"], base["version"]) == ("starter", world.base.fingerprint, 1)
    assert base["is_loaded"] is True
    assert base["parameters"] > base["image_parameters"] > 1_000_000
    config = world.base.finetune_defaults
    assert base["defaults"]["iterations"] == config.iterations
    before = base["num_versions"]
    compose(world, {"version": add_patch(world, seeds=(9,)).version, "coefficient": 0.9})
    assert world.client.get("/v1/bases").json()["items"][0]["num_versions"] == before + 2
