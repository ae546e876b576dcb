"""Versions with a head term: what they answer, and how they are composed, verified and exported."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from contract.jobs import JobKind
from contract.lineage import Lineage
from paint_core.evaluation import encode, probe_features
from paint_core.instant import HeadTerm, save_head_term
from paint_core.models import build_head
from paint_core.weights import fingerprint
from pipeline.heads import answers_fingerprint
from registry.jobs import Jobs
from registry.patches import Patches
from registry.versions import HEAD_PROFILE, TermSpec, Versions
from tests.app.patched import add_patch
from tests.app.world import World, add_version, check_problem
from tests.builders import digit_pngs

NAMES = ("zero", "one")
OTHERS = ["a pizza", "a bridge"]


@pytest.fixture(scope="module")
def patched(world: World) -> tuple[int, str]:
    """A version whose head term tells two digits apart, and the term's hash."""
    base = world.base
    pictures = [picture for digit in (0, 1) for picture in digit_pngs(digit)[1:13]]
    pixels = torch.stack([torch.from_numpy(base.preprocess.decode(each)) for each in pictures])
    support = F.normalize(encode(base.visual, pixels, base.preprocess), dim=-1)
    head = build_head(base, NAMES, base.default_templates)
    labels = torch.arange(2).repeat_interleave(12)
    weights = fingerprint(base.visual.state_dict())
    term, _ = HeadTerm.fit(NAMES, support, labels, head, base.logit_scale, weights)
    stored = save_head_term(term)
    sha256 = world.services.blobs.put_bytes(stored)
    with world.services.database.write() as session:
        versions, job = Versions(session), Jobs(session).create(JobKind.PATCH, "pt_head")
        versions.add_task_vector(
            sha256=sha256,
            base_fingerprint=base.fingerprint,
            num_bytes=len(stored),
            relative_norm=0.0,
            job_id=job.id,
            kind="head",
        )
        terms = [TermSpec(sha256, 1.0, HEAD_PROFILE)]
        row = versions.register(
            name="head",
            base_fingerprint=base.fingerprint,
            terms=terms,
            probe=probe_features(base.visual, base).tolist(),
            lineage=Lineage(),
            job_id=job.id,
            weights_fingerprint=answers_fingerprint(weights, terms),
        )
    return row.id, sha256


def _ask(world: World, version: int, labels: list[str], digit: int = 1) -> list[dict[str, Any]]:
    images = [("images", ("picture.png", digit_pngs(digit)[0]))]
    response = world.client.post(
        "/v1/classify", data={"candidate_labels": labels, "version": str(version)}, files=images
    )
    assert response.status_code == 200, response.text
    return list(response.json()["results"][0]["predictions"])


def test_patched_names_are_told_apart_in_any_list_and_other_lists_are_answered_as_by_the_base(
    world: World, patched: tuple[int, str]
) -> None:
    version, _ = patched
    for digit, name in enumerate(NAMES):
        assert _ask(world, version, [*OTHERS, *NAMES], digit)[0]["label"] == name
    scores = [each["score"] for each in _ask(world, version, [*OTHERS, *NAMES])]
    assert sum(scores) == pytest.approx(1, abs=1e-5)
    assert scores == sorted(scores, reverse=True)
    assert _ask(world, version, OTHERS) == _ask(world, 1, OTHERS)


def test_a_head_term_is_composed_scaled_and_removed_but_not_combined_with_other_weights(
    world: World, patched: tuple[int, str]
) -> None:
    version, sha256 = patched
    described = world.client.get(f"/v1/versions/{version}").json()
    term = {"task_vector_sha256": sha256, "coefficient": 1.0, "profile": "head", "kind": "head"}
    assert described["terms"] == [term]
    body: dict[str, Any] = {"name": "half", "terms": [{"task_vector_sha256": sha256, "coefficient": 0.5}]}
    half = world.client.post("/v1/versions", json=body).json()
    assert half["terms"] == [term | {"coefficient": 0.5}]
    assert half["weights_fingerprint"] not in (described["weights_fingerprint"], None)
    other, _ = add_version(world.services, world.base, seed=91)
    body["terms"].append({"version": other})
    check_problem(world.client.post("/v1/versions", json=body), 422, "weights_mismatch")
    removal = {"name": "none", "from_version": version, "remove": [sha256]}
    check_problem(world.client.post("/v1/versions", json=removal), 422, "nothing_to_add")
    body["terms"] = [{"task_vector_sha256": sha256, "profile": "lines"}]
    check_problem(world.client.post("/v1/versions", json=body), 422, "profile_of_head_term")


def test_a_version_with_a_head_term_is_verified_and_not_exported(world: World, patched: tuple[int, str]) -> None:
    version, _ = patched
    checked = world.client.post(f"/v1/versions/{version}/verify").json()
    assert checked["matches"] is True, checked
    check_problem(world.client.get(f"/v1/versions/{version}/export"), 422, "head_term_not_exportable")


def test_what_an_instant_patch_cannot_use_is_refused(world: World) -> None:
    body = {"name": "now", "method": "instant", "tasks": ["ds_1"], "finetune": {"iterations": 5}}
    response = world.client.post("/v1/patches", json=body)
    assert response.status_code == 422
    assert "trains nothing" in response.text


def test_only_instant_patches_are_continued_and_their_data_sets_that_exist_judge_the_next(
    world: World, patched: tuple[int, str]
) -> None:
    plain = add_patch(world)
    for action, body in (("extend", {"tasks": [plain.task]}), ("forget", {"classes": ["zero"]})):
        check_problem(world.client.post(f"/v1/patches/{plain.id}/{action}", json=body), 422, "not_extendable")
    with world.services.database.write() as session:
        row = Patches(session).get(plain.id)
        terms = [{"key": "head", "task_vector_sha256": patched[1], "coefficient": 1.0, "profile": "head"}]
        row.report = {**(row.report or {}), "terms": terms}
        row.request = {**row.request, "method": "instant", "finetune": {}}
    response = world.client.post(f"/v1/patches/{plain.id}/forget", json={"classes": ["zero"], "name": "less"})
    assert response.status_code == 202, response.text
    asked = response.json()["patch"]["request"]
    assert (asked["extends"], asked["forget"], asked["tasks"]) == (plain.id, ["zero"], [plain.task])
    assert response.json()["patch"]["name"] == "less"
    with world.services.database.write() as session:
        row = Patches(session).get(plain.id)
        row.request = {**row.request, "keep": "statistics"}
    again = world.client.post(f"/v1/patches/{plain.id}/forget", json={"classes": ["zero"], "name": "fewer"})
    assert again.json()["patch"]["request"]["keep"] == "statistics"
    wrong = {"name": "a", "method": "instant", "tasks": [plain.task], "extends": plain.id}
    check_problem(world.client.post("/v1/patches", json=wrong), 422, "not_extendable")
