"""Every route of the OpenAPI document against every scope and owner: who may use what is what the document says.

The cases are made from the document, so a new route is in them; one that declares no policy does not start at all.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.testclient import TestClient

from app.access.policies import Policies, needs
from app.inference.protocols.oip.schemas import MODEL_NAME
from app.inference.protocols.plain_errors import has_plain_errors
from contract.access import Scope
from contract.evaluations import EvaluationRequest
from registry.aliases import Aliases
from registry.approvals import Approvals, MoveRequest
from registry.database import utc_now
from registry.datasets import Datasets
from registry.evaluations import Evaluations
from registry.feedback import NewFeedback
from registry.jobs import Jobs
from registry.keys import ApiKeys
from registry.label_sets import LabelSets, label_set_id
from registry.patches import Patches
from registry.tables import FeedbackRow
from registry.versions import Versions
from tests.app.galleries import give_images
from tests.app.patched import add_patch
from tests.app.world import World, check_plain_error, check_problem, open_world
from tests.builders import digit_pngs
from tests.project.paths import ROOT

OWNER, OTHER = "owner", "other"
FEEDBACK = "fb_1"
DOCUMENT = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))  # `tests.project` compares it
BODIES: dict[str, Any] = {
    "PUT /v1/aliases/{alias}": {"version": 1},
    "POST /v1/aliases/{alias}/check": {"version": 1},
    "POST /v1/datasets/{dataset_id}/derive": {"name": "derived"},
    "PATCH /v1/datasets/{dataset_id}": {"name": "renamed"},
    "PATCH /v1/patches/{patch_id}": {"name": "renamed"},
}


@dataclass(frozen=True)
class Route:
    """An operation of the document and what the document says of who may use it."""

    method: str
    path: str
    scope: Scope | None
    owned: str | None
    needs_key: bool

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def allows(self, scope: Scope, owner: str) -> bool:
        if self.scope is None or scope is Scope.ADMIN:
            return True
        return scope is self.scope and (self.owned is None or owner == OWNER)

    def url(self, ids: dict[str, str]) -> str:
        return self.path.format(**ids)


def routes() -> Iterator[Route]:
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            scopes = [scope for each in operation["security"] for scope in each.get("key", ())]
            assert len(scopes) <= 1, path
            needs_key = any("key" in each for each in operation["security"])
            scope, owned = Scope(scopes[0]) if scopes else None, operation.get("x-paintbox-owned")
            yield Route(method.upper(), path, scope, owned, needs_key)


ROUTES = list(routes())


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("keyed")) as world:
        yield world


@pytest.fixture(scope="module")
def tokens(keyed: World) -> dict[tuple[Scope, str], str]:
    """A key of each scope for each of two owners."""
    with keyed.services.database.write() as session:
        made = {
            (scope, owner): ApiKeys(session).create(name=owner, scopes=[scope], expires_at=None, created_by="a test")[1]
            for scope, owner in product(Scope, (OWNER, OTHER))
        }
    keyed.services.keyring.reload()
    return made


@pytest.fixture(scope="module")
def ids(keyed: World, tokens: dict[tuple[Scope, str], str]) -> dict[str, str]:
    """One of each thing, all of them of one owner, and a key that may be revoked."""
    keyed.client.headers["authorization"] = f"Bearer {tokens[Scope.ADMIN, OWNER]}"
    patch = add_patch(keyed)
    del keyed.client.headers["authorization"]
    give_images(keyed.services, patch.task)
    dataset_id = patch.task  # in use, as the patch is by its version: neither goes, whoever asks
    with keyed.services.database.write() as session:
        dataset, row = Datasets(session).get(dataset_id), Patches(session).get(patch.id)
        version = Versions(session).get(patch.version)
        job = Jobs(session).create("patch", row.id)
        dataset.owner = row.owner = version.owner = job.owner = OWNER
        Aliases(session).move("canary", version.id, actor="a test", reason="")
        LabelSets(session).add(["a"], [], owner=OWNER)
        asked = EvaluationRequest(versions=(version.id,), dataset=dataset_id)
        evaluation = Evaluations(session).submit(asked, OWNER)  # never done, so nobody can delete it
        approval = Approvals(session).request(MoveRequest("canary", version.id, 0, "", "a test"))  # and it moves then
        spare, _ = ApiKeys(session).create(name="spare", scopes=[Scope.READ], expires_at=None, created_by="a test")
        return {
            "dataset_id": dataset_id,
            "patch_id": row.id,
            "evaluation_id": evaluation.id,
            "job_id": job.id,
            "version_id": str(version.id),
            "alias": "canary",
            "approval_id": approval.id,
            "key_id": spare.id,
            "upload_id": "0" * 32,
            "model_name": MODEL_NAME,
            "model_version": "1",
            "label_set_id": label_set_id(["a"], []),
            "split": "train",
            "row": "0",
            "feedback_id": FEEDBACK,
        }


def keep_feedback(keyed: World) -> None:
    """Store feedback again if somebody has deleted it."""
    sha256 = keyed.services.blobs.put_bytes(digit_pngs(0)[0])
    with keyed.services.database.write() as session:
        if session.get(FeedbackRow, FEEDBACK) is None:
            now, given = utc_now(), NewFeedback(sha256, "0" * 64, 1, owner=OWNER)
            session.add(FeedbackRow(id=FEEDBACK, state="open", created_at=now, updated_at=now, **vars(given)))


def ask(client: TestClient, route: Route, ids: dict[str, str], token: str | None) -> Any:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    client.cookies.clear()  # the route before may have opened a session
    return client.request(route.method, route.url(ids), json=BODIES.get(str(route)), headers=headers)


def check_refusal(route: Route, response: Any, status: int, code: str) -> str | None:
    """The detail of a refusal; None if it has no body, as every answer to HEAD."""
    if route.method == "HEAD":
        assert response.status_code == status
        return None
    if has_plain_errors(route.path):
        return check_plain_error(response, status)
    return str(check_problem(response, status, code)["detail"])


OPEN = {"GET /livez", "GET /readyz", "GET /metrics", "GET /v2/health/live", "GET /v2/health/ready"}
ANY_KEY = {"POST /v1/session", "GET /v1/session", "DELETE /v1/session"}
CLASSIFY = {
    "POST /v1/classify",
    "POST /v1/embed",
    "POST /v1/feedback",
    "GET /v2",
    "GET /v2/models/{model_name}",
    "GET /v2/models/{model_name}/ready",
    "POST /v2/models/{model_name}/infer",
    "GET /v2/models/{model_name}/versions/{model_version}",
    "GET /v2/models/{model_name}/versions/{model_version}/ready",
    "POST /v2/models/{model_name}/versions/{model_version}/infer",
    "POST /hf/zero-shot-image-classification",
}


def test_the_document_names_the_policy_of_every_protected_route() -> None:
    assert {str(route) for route in ROUTES if not route.needs_key} == OPEN
    assert {str(route) for route in ROUTES if route.needs_key and route.scope is None} == ANY_KEY
    assert {str(route) for route in ROUTES if route.scope is Scope.CLASSIFY} == CLASSIFY
    assert {str(route): route.owned for route in ROUTES if route.owned} == {
        "PATCH /v1/datasets/{dataset_id}": "dataset",
        "DELETE /v1/datasets/{dataset_id}": "dataset",
        "PATCH /v1/patches/{patch_id}": "patch",
        "POST /v1/patches/{patch_id}/reselect": "patch",
        "DELETE /v1/patches/{patch_id}": "patch",
        "DELETE /v1/evaluations/{evaluation_id}": "evaluation",
        "POST /v1/jobs/{job_id}/cancel": "job",
        "POST /v1/jobs/{job_id}/retry": "job",
        "PATCH /v1/versions/{version_id}": "version",
        "DELETE /v1/versions/{version_id}": "version",
        "POST /v1/versions/{version_id}/restore": "version",
        "DELETE /v1/label-sets/{label_set_id}": "label_set",
    }
    only_reads = {str(route) for route in ROUTES if route.scope is Scope.READ}
    assert all(name.startswith("GET ") for name in only_reads)
    writes = {str(route) for route in ROUTES if route.method != "GET"} - ANY_KEY
    looks = {name for name in CLASSIFY if name.startswith("GET ")} | {"GET /v1/keys"}
    looks |= {f"GET /v1/feedback{rest}" for rest in ("", "/{feedback_id}", "/{feedback_id}/image")}
    assert (
        writes == {str(route) for route in ROUTES if route.scope in (Scope.WRITE, Scope.ADMIN, Scope.CLASSIFY)} - looks
    )


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_a_route_answers_whom_the_document_allows_and_nobody_else(
    keyed: World, tokens: dict[tuple[Scope, str], str], ids: dict[str, str], route: Route
) -> None:
    for token in (None, "wrong", f"paintbox_{'0' * 16}_wrong"):
        if route.needs_key:
            check_refusal(route, ask(keyed.client, route, ids, token), 401, "unauthorised")
    refused = [who for who in tokens if not route.allows(*who)]
    allowed = [who for who in tokens if route.allows(*who)]
    assert allowed
    for scope, owner in refused:
        response = ask(keyed.client, route, ids, tokens[scope, owner])
        assert response.status_code == 403, f"{route} answers {scope} of {owner}: {response.text}"
        missing = scope is not route.scope
        detail = check_refusal(route, response, 403, "scope_missing" if missing else "not_owner")
        assert detail is None or (str(route.scope) if missing else OTHER) in detail
    for scope, owner in allowed:
        with keyed.services.database.write() as session:  # the one before may have removed it
            Aliases(session).move(ids["alias"], int(ids["version_id"]), actor="a test", reason="")
            LabelSets(session).add(["a"], [], owner=OWNER)
        keep_feedback(keyed)
        response = ask(keyed.client, route, ids, tokens[scope, owner])
        assert response.status_code not in (401, 403, 404, 405), f"{route} refuses {scope} of {owner}: {response.text}"
        assert response.status_code < 500


def test_what_was_made_without_a_key_is_the_admins(keyed: World, tokens: dict[tuple[Scope, str], str]) -> None:
    with keyed.services.database.write() as session:
        job_id = Jobs(session).create("patch", "pt_test").id
    for owner in (OWNER, OTHER):
        headers = {"authorization": f"Bearer {tokens[Scope.WRITE, owner]}"}
        check_problem(keyed.client.post(f"/v1/jobs/{job_id}/cancel", headers=headers), 403, "not_owner")
    headers = {"authorization": f"Bearer {tokens[Scope.ADMIN, OTHER]}"}
    assert keyed.client.post(f"/v1/jobs/{job_id}/cancel", headers=headers).status_code == 200


def test_what_is_not_there_is_missing_rather_than_somebody_elses(
    keyed: World, tokens: dict[tuple[Scope, str], str]
) -> None:
    headers = {"authorization": f"Bearer {tokens[Scope.WRITE, OWNER]}"}
    check_problem(keyed.client.post("/v1/jobs/job_nothing/cancel", headers=headers), 404, "not_found")


def test_probes_of_other_protocols_need_no_key_and_unknown_paths_below_them_do(keyed: World) -> None:
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert keyed.client.get(path).status_code == 200
    for path in ("/v2/healthy", "/v2/models", "/v2x", "/hf", "/hf/models/x"):
        check_plain_error(keyed.client.get(path), 401)
    assert "no route" in check_plain_error(keyed.client.get("/v2/health/other"), 404)


def test_a_body_is_not_read_for_a_key_without_the_scope(keyed: World, tokens: dict[tuple[Scope, str], str]) -> None:
    chunks_read: list[Scope] = []

    def upload(scope: Scope) -> Any:
        def chunks() -> Iterator[bytes]:
            chunks_read.append(scope)
            yield b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\n--x--\r\n'

        headers = {"authorization": f"Bearer {tokens[scope, OWNER]}", "content-type": "multipart/form-data; boundary=x"}
        return keyed.client.post("/v1/datasets", content=chunks(), headers=headers)

    check_problem(upload(Scope.READ), 403, "scope_missing")
    assert chunks_read == []
    assert upload(Scope.WRITE).status_code == 422
    assert chunks_read == [Scope.WRITE]


@pytest.mark.parametrize("dependencies", [[], [needs(Scope.READ), needs(Scope.WRITE)]], ids=["none", "two"])
def test_a_new_route_without_one_clear_policy_does_not_start(dependencies: list[Any]) -> None:
    router = APIRouter(prefix="/v1/new")

    @router.get("/{thing}", dependencies=dependencies)
    def look(thing: str) -> None:
        """Look."""

    app = FastAPI()
    app.include_router(router)
    with pytest.raises(AssertionError, match="/v1/new/"):
        Policies.of(app)


def test_a_router_of_others_is_guarded_where_it_is_included() -> None:
    router = APIRouter()

    @router.patch("/upload/{name}")
    def go_on(name: str) -> None:
        """Go on."""

    app = FastAPI()
    app.include_router(router, prefix="/v1", dependencies=[needs(Scope.WRITE)])
    policy = Policies.of(app).find("PATCH", "/v1/upload/x")
    assert policy is not None
    assert policy.guard.scope is Scope.WRITE


def test_every_resource_tells_its_owner(
    keyed: World, tokens: dict[tuple[Scope, str], str], ids: dict[str, str]
) -> None:
    headers = {"authorization": f"Bearer {tokens[Scope.READ, OTHER]}"}
    with keyed.services.database.write() as session:
        LabelSets(session).add(["a"], [], owner=OWNER)
    for noun in ("dataset", "patch", "job", "version", "label_set"):
        plural = {"patch": "patches", "label_set": "label-sets"}.get(noun, f"{noun}s")
        resource = keyed.client.get(f"/v1/{plural}/{ids[f'{noun}_id']}", headers=headers).json()
        assert resource["owner"] == OWNER, noun
        listed = keyed.client.get(f"/v1/{plural}", headers=headers).json()["items"]
        assert OWNER in [each["owner"] for each in listed], noun


def test_a_patch_that_may_move_active_needs_what_moving_it_needs(
    keyed: World, tokens: dict[tuple[Scope, str], str], ids: dict[str, str]
) -> None:
    body = {
        "name": "p",
        "tasks": ["ds_unknown"],
        "supported": [ids["dataset_id"]],
        "alpha": {"rule": "floor", "max_supported_drop": 1},
        "activate": "if_accepted",
    }
    for scope in (Scope.WRITE, Scope.ADMIN):
        headers = {"authorization": f"Bearer {tokens[scope, OWNER]}"}
        response = keyed.client.post("/v1/patches", json=body, headers=headers)
        assert response.status_code == (403 if scope is Scope.WRITE else 404), response.text
