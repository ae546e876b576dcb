"""Composing versions: the weights are the sum that was asked for, and what makes no sense says why."""

import time
from typing import Any

import pytest
import torch

from contract.lineage import Lineage
from paint_core.weights import save_task_vector
from registry.versions import TermSpec, Versions
from tests.app.patched import add_patch, add_task_vector
from tests.app.world import (
    World,
    check_problem,
    expected_cosines,
    mixed_tower,
    random_task_vector,
)
from tests.builders import digit_pngs

LABELS = ["pizza", "taco", "digit zero"]
IMAGES = [digit_pngs(0)[0], digit_pngs(7)[0]]


def compose(world: World, **body: Any) -> Any:
    return world.client.post("/v1/versions", json={"name": "mix", **body})


def composed(world: World, *terms: dict[str, Any]) -> dict[str, Any]:
    response = compose(world, terms=terms)
    assert response.status_code == 201, response.text
    version: dict[str, Any] = response.json()
    assert response.headers["location"] == f"/v1/versions/{version['id']}"
    return version


def coefficients(version: dict[str, Any]) -> dict[str, float]:
    return {term["task_vector_sha256"]: pytest.approx(term["coefficient"]) for term in version["terms"]}


def summed(world: World, parts: dict[int, float]) -> torch.nn.Module:
    sums: dict[str, torch.Tensor] = {}
    for seed, coefficient in parts.items():
        for name, tensor in random_task_vector(world.base, seed).items():
            sums[name] = sums.get(name, torch.zeros(())) + coefficient * tensor
    return mixed_tower(world.base, sums, 1.0)


def test_a_composed_version_activates_and_answers_with_the_sum_of_its_terms(world: World) -> None:
    first, second = add_task_vector(world, 1), add_task_vector(world, 2)
    started = time.monotonic()
    version = composed(
        world,
        {"task_vector_sha256": first, "coefficient": 0.5},
        {"task_vector_sha256": second, "coefficient": -0.25},
    )
    assert time.monotonic() - started < 20  # seconds, not the minutes of a training
    assert [term["coefficient"] for term in version["terms"]] == [0.5, -0.25]
    assert (version["patch_id"], version["is_active"]) == (None, False)
    assert version["lineage"]["made_by"] == "compose"
    activated = world.client.put("/v1/aliases/active", json={"version": version["id"]})
    assert activated.status_code == 200, activated.text  # the probe was right
    files = [("images", ("image.png", image)) for image in IMAGES]
    answer = world.client.post("/v1/classify", files=files, data={"candidate_labels": LABELS}).json()
    rows = [{each["label"]: each["cosine"] for each in result["predictions"]} for result in answer["results"]]
    got = torch.tensor([[row[label] for label in LABELS] for row in rows])
    expected = expected_cosines(world.base, summed(world, {1: 0.5, 2: -0.25}), IMAGES, LABELS)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


def test_patches_and_versions_bring_their_terms_scaled_and_equal_ones_add_up(world: World) -> None:
    patched = add_patch(world, seeds=(1, 2), alpha=0.8)  # 0.4 each
    other = add_task_vector(world, 3)
    mixed = composed(
        world,
        {"patch": patched.id, "coefficient": 0.5},
        {"version": patched.version, "coefficient": -0.25},
        {"task_vector_sha256": patched.vectors[0], "coefficient": 0.05},
        {"task_vector_sha256": other},
    )
    assert coefficients(mixed) == {patched.vectors[0]: 0.15, patched.vectors[1]: 0.1, other: 1.0}


def test_profiles_are_kept_apart_and_those_of_versions_kept(world: World) -> None:
    vector = add_task_vector(world, 1)
    first = composed(
        world,
        {"task_vector_sha256": vector, "coefficient": 0.5},
        {"task_vector_sha256": vector, "coefficient": 0.25, "profile": "lines"},
    )
    again = composed(world, {"version": first["id"], "coefficient": 2})
    assert [(term["coefficient"], term["profile"]) for term in again["terms"]] == [(1.0, "flat"), (0.5, "lines")]


def test_a_patch_is_removed_by_its_id_and_one_task_vector_by_its_hash(world: World) -> None:
    kept, gone = add_patch(world, seeds=(1, 2)), add_patch(world, seeds=(3, 4))
    both = composed(world, {"patch": kept.id}, {"patch": gone.id})
    without = compose(world, from_version=both["id"], remove=[gone.id])
    assert without.status_code == 201
    assert coefficients(without.json()) == {kept.vectors[0]: 0.25, kept.vectors[1]: 0.25}
    assert without.json()["lineage"]["request"]["from_version"] == both["id"]
    one = compose(world, from_version=both["id"], remove=[gone.id, kept.vectors[0]]).json()
    assert coefficients(one) == {kept.vectors[1]: 0.25}


def test_what_leaves_only_the_base_is_refused_and_names_the_bases_version(world: World) -> None:
    patched = add_patch(world)
    nothing = compose(world, from_version=patched.version, remove=[patched.id])
    assert "Version 1" in check_problem(nothing, 422, "nothing_to_add")["next"]
    negated = [{"patch": patched.id}, {"version": patched.version, "coefficient": -1}]
    check_problem(compose(world, terms=negated), 422, "nothing_to_add")
    check_problem(compose(world, terms=[{"version": 1}]), 422, "nothing_to_add")


def test_what_is_not_there_is_not_found(world: World) -> None:
    vector = add_task_vector(world, 1)
    for term in ({"task_vector_sha256": "e" * 64}, {"patch": "pt_nothing"}, {"version": 999_999}):
        check_problem(compose(world, terms=[term]), 404, "not_found")
    check_problem(compose(world, terms=[{"task_vector_sha256": vector}], base="nothing"), 404, "not_found")
    check_problem(compose(world, from_version=999_999, remove=[vector]), 404, "not_found")
    patched = add_patch(world)
    check_problem(compose(world, from_version=patched.version, remove=["pt_nothing"]), 404, "not_found")
    check_problem(compose(world, from_version=patched.version, remove=["e" * 64]), 404, "not_found")


def test_only_what_is_in_a_version_can_be_removed(world: World) -> None:
    first, second = add_patch(world, seeds=(1,)), add_patch(world, seeds=(2,))
    for name in (second.id, second.vectors[0]):
        problem = check_problem(compose(world, from_version=first.version, remove=[name]), 422, "not_in_version")
        assert name in problem["detail"]


def test_a_patch_that_is_not_done_has_nothing_to_compose(world: World) -> None:
    patched = add_patch(world)
    task = {"name": "x", "tasks": [patched.task]}
    waiting = world.client.post("/v1/patches", json=task).json()["patch"]
    problem = check_problem(compose(world, terms=[{"patch": waiting["id"]}]), 409, "conflict")
    assert waiting["job_id"] in problem["next"]


def _vector_of_another_base(world: World) -> str:
    with world.services.database.write() as session:
        versions = Versions(session)
        versions.ensure_base(ref="other-clip", fingerprint="b" * 64, embed_dim=8, image_size=32)
        versions.add_task_vector(
            sha256="c" * 64, base_fingerprint="b" * 64, num_bytes=1, relative_norm=0.1, job_id="job_other"
        )
    return "c" * 64


def test_task_vectors_of_two_bases_are_refused_and_both_named(world: World) -> None:
    ours, theirs = add_task_vector(world, 1), _vector_of_another_base(world)
    terms = [{"task_vector_sha256": ours}, {"task_vector_sha256": theirs}]
    problem = check_problem(compose(world, terms=terms), 422, "bases_differ")
    assert "'starter'" in problem["detail"]
    assert "'other-clip'" in problem["detail"]
    check_problem(compose(world, terms=terms[:1], base="other-clip"), 422, "bases_differ")
    assert compose(world, terms=terms[:1], base="starter").status_code == 201


def test_a_base_that_is_not_loaded_cannot_be_mixed(world: World) -> None:
    terms = [{"task_vector_sha256": _vector_of_another_base(world)}]
    assert "PAINTBOX_BASES" in check_problem(compose(world, terms=terms), 409, "conflict")["next"]


VECTOR = {"task_vector_sha256": "a" * 64}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "exactly one of terms and from_version"),
        ({"terms": [VECTOR], "from_version": 1, "remove": ["pt_1"]}, "exactly one of terms and from_version"),
        ({"from_version": 1}, "must be used together"),
        ({"terms": [VECTOR], "remove": ["pt_1"]}, "must be used together"),
        ({"terms": []}, "at least 1"),
        ({"terms": [VECTOR] * 65}, "at most 64"),
        ({"terms": [{}]}, "exactly one of task_vector_sha256"),
        ({"terms": [{"patch": "pt_1", "version": 1}]}, "exactly one of task_vector_sha256"),
        ({"terms": [{"patch": "pt_1", "profile": "lines"}]}, "profile requires task_vector_sha256"),
        ({"terms": [VECTOR | {"profile": "steep"}]}, "'flat', 'lines' or 'lines_paper'"),
        ({"terms": [VECTOR | {"coefficient": 11}]}, "less than or equal to 10"),
        ({"terms": [VECTOR | {"coefficient": "NaN"}]}, "finite number"),
        ({"terms": [{"task_vector_sha256": "../etc/passwd"}]}, "is not a hash"),
        ({"terms": [VECTOR], "name": " "}, "at least 1 character"),
        ({"terms": [VECTOR], "typo": 1}, "is not a known field"),
    ],
    ids=str,
)
def test_a_body_that_makes_no_sense_is_refused_with_the_reason(world: World, body: dict[str, Any], reason: str) -> None:
    problem = check_problem(compose(world, **body), 422, "invalid_request")
    assert reason in " ".join(each["message"] for each in problem["errors"])


def test_more_terms_than_a_version_holds_are_refused(world: World) -> None:
    vectors = [f"{index:064x}" for index in range(65)]
    with world.services.database.write() as session:
        versions = Versions(session)
        for sha256 in vectors:
            versions.add_task_vector(
                sha256=sha256,
                base_fingerprint=world.base.fingerprint,
                num_bytes=1,
                relative_norm=0.1,
                job_id="job_many",
            )
        many = versions.register(
            name="many",
            base_fingerprint=world.base.fingerprint,
            terms=[TermSpec(sha256, 0.1) for sha256 in vectors],
            probe=[],
            lineage=Lineage(),
        ).id
    check_problem(compose(world, terms=[{"version": many}]), 422, "too_many_terms")


def test_a_mix_that_is_not_finite_is_refused_and_leaves_no_version(world: World) -> None:
    tau = {name: torch.full_like(tensor, 3e38) for name, tensor in random_task_vector(world.base, 1).items()}
    sha256 = world.services.blobs.put_bytes(save_task_vector(tau, {}))
    with world.services.database.write() as session:
        Versions(session).add_task_vector(
            sha256=sha256, base_fingerprint=world.base.fingerprint, num_bytes=1, relative_norm=9.0, job_id="job_huge"
        )
    before = world.client.get("/v1/versions").json()
    refused = compose(world, terms=[{"task_vector_sha256": sha256, "coefficient": 10}])
    check_problem(refused, 422, "weights_non_finite")
    assert world.client.get("/v1/versions").json() == before


def test_a_damaged_task_vector_makes_no_version(world: World) -> None:
    sha256 = add_task_vector(world, 77)
    path = world.services.blobs.fetch(sha256)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    before = world.client.get("/v1/versions").json()
    check_problem(compose(world, terms=[{"task_vector_sha256": sha256}]), 500, "blob_corrupt")
    assert world.client.get("/v1/versions").json() == before


def test_one_version_is_mixed_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.versions.fair_lock.WAIT_SECONDS", 0.05)
    terms = [{"task_vector_sha256": add_task_vector(world, 1)}]
    with world.services.composer.turns.take(None):
        check_problem(compose(world, terms=terms), 409, "composition_in_progress")
    assert compose(world, terms=terms).status_code == 201
