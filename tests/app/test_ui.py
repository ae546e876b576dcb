"""The pages: what they load, who may see them, and names that try to command them; tests/browser uses them."""

import base64
import hashlib
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from app.web.assets import load_assets
from registry.datasets import Datasets
from registry.patches import Patches
from registry.versions import Versions
from tests.app.galleries import give_images
from tests.app.patched import Patched, add_patch
from tests.app.test_keys import BOOTSTRAP, bearer, make
from tests.app.world import World, add_ready_dataset, open_world

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202egnp.exe\u2066" + "x" * 100
HTML = {"accept": "text/html"}


@pytest.fixture(scope="module")
def patch(world: World) -> Patched:
    return add_patch(world)


def paths(patch: Patched) -> list[str]:
    return [
        *("/ui/", "/ui/datasets", "/ui/datasets/new", "/ui/patches", "/ui/patches/new", f"/ui/patches/{patch.id}"),
        *("/ui/versions", f"/ui/versions/{patch.version}", "/ui/versions/compare"),
        f"/ui/versions/compare?before=1&after={patch.version}",
        *("/ui/help", "/ui/help/operations", "/ui/versions/compose"),
        *("/ui/playground", "/ui/corrections", "/ui/evaluations", "/ui/serving", "/ui/jobs", "/ui/system", "/ui/keys"),
        "/ui/bases",
    ]


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("pages"), api_key=BOOTSTRAP, root_path="/paint") as world:
        yield world


def test_every_page_loads_only_what_is_its_own(client: TestClient, patch: Patched) -> None:
    for path in paths(patch):
        page = client.get(path, headers=HTML)
        assert page.status_code == 200, path
        policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
        assert "unsafe" not in str(policy)
        assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
        assert re.findall(r"<style| style=| on[a-z]+=|<script>", page.text) == [], path
        for address in re.findall(r'(?:src|action|<link[^>]* href)="([^"]*)"', page.text):
            assert urlsplit(address).netloc == "", f"{path}: {address}"


def test_every_link_of_a_page_leads_somewhere(client: TestClient, patch: Patched) -> None:
    found = {address for path in paths(patch) for address in re.findall(r'href="(/[^"#]*)"', client.get(path).text)}
    missing = [address for address in found if client.get(address.replace("&amp;", "&")).status_code >= 400]
    assert [each for each in missing if patch.task not in each and patch.supported not in each] == []


def test_the_help_is_the_documentation_with_links_between_its_pages(client: TestClient) -> None:
    page = client.get("/ui/help/client")
    assert "<table>" in page.text
    assert 'href="/ui/help/operations#keys"' in client.get("/ui/help/web").text
    assert '<h2 id="keys">' in client.get("/ui/help/operations").text
    assert "decisions/" not in re.sub("<[^>]*>", "", page.text)
    for name in ("none", "../../pyproject", "decisions", "%2e%2e"):
        assert client.get(f"/ui/help/{name}").status_code == 404


def test_the_help_shows_folders_and_pictures_and_no_comments(client: TestClient, keyed: World) -> None:
    index = client.get("/ui/help").text
    addresses = re.findall(r'href="(/ui/help/[^"#]*)"', index)
    assert {"/ui/help/tutorial", "/ui/help/how-to/your-folder", "/ui/help/reference/problems"} <= set(addresses)
    for address in addresses:
        page = client.get(address)
        assert page.status_code == 200, address
        assert "&lt;!--" not in page.text, address
    assert 'href="/ui/help/datasets"' in client.get("/ui/help/how-to/your-folder").text
    pictures = re.findall(r'<img src="([^"]*)"', client.get("/ui/help/tutorial").text)
    assert len(pictures) > 2
    for address in pictures:
        picture = client.get(address)
        assert picture.headers["content-type"] == "image/webp"
        assert picture.content[8:12] == b"WEBP"
    prefixed = keyed.client.get("/paint/ui/help/tutorial", headers={**HTML, **bearer(BOOTSTRAP)})
    assert 'href="/paint/ui/help/how-to/your-folder"' in prefixed.text


def test_a_report_is_one_file_that_loads_nothing(client: TestClient, patch: Patched) -> None:
    page = client.get(f"/v1/patches/{patch.id}/report.html")
    assert page.headers["content-type"].startswith("text/html")
    assert re.findall(r"(?:src|href)=|<script|@import|url\(", page.text) == []
    style = re.findall(r"<style>(.*?)</style>", page.text, flags=re.DOTALL)[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in page.headers["content-security-policy"]
    assert "<svg" in page.text


def test_trials_of_settings_are_shown_on_the_page_and_in_the_report(world: World, client: TestClient) -> None:
    patched = add_patch(world, (5,))
    trial = {"learning_rate": 1e-4, "iterations": 200, "alpha": 0.5, "patching": 0.9, "supported": None}
    failed = {"number": 2, "learning_rate": 2e-4, "iterations": 200, "failure": "the loss was <not> finite"}
    with world.services.database.write() as session:
        row = Patches(session).get(patched.id)
        trials = [{**trial, "number": 1, "chosen": True}, {**failed, "chosen": False}]
        row.report = {**(row.report or {}), "trials": trials}
    for address in (f"/ui/patches/{patched.id}", f"/v1/patches/{patched.id}/report.html"):
        page = client.get(address).text
        cells = re.findall(r"<td>(.*?)</td>", page[page.index("Trials of settings") :])[:12]
        assert cells[:3] == ["0.0001", "200", "0.5"]
        assert cells[5] == "chosen"
        assert cells[8:12] == ["–", "–", "–", "the loss was &lt;not&gt; finite"]


def test_fields_that_are_not_filled_in_filter_nothing(world: World, client: TestClient) -> None:
    dataset = add_ready_dataset(world.services, ["cat", "dog"], splits=("train", "test"))
    give_images(world.services, dataset)
    for path in (
        *(f"/ui/datasets/{dataset}?split=&label=", f"/ui/datasets/{dataset}?split=train&label=cat"),
        *("/ui/datasets?ref=", "/ui/patches?ref=", "/ui/versions?ref=", "/ui/corrections?state=open&source="),
        *("/ui/corrections?state=used&source=shadow", "/ui/jobs?status=failed"),
    ):
        assert client.get(path).status_code == 200, path


def test_the_first_page_is_small(client: TestClient) -> None:
    page = client.get("/ui/")
    addresses = re.findall(r'(?:src|href)="(/ui/static/[^"]+)"', page.text)
    files = [client.get(each, headers={"accept-encoding": "gzip"}) for each in addresses]
    assert len(files) == 3
    assert len(page.content) + sum(int(each.headers["content-length"]) for each in files) < 100_000


def test_a_static_file_never_changes_under_its_address(client: TestClient) -> None:
    address = re.findall(r'href="(/ui/static/[^"]+site.css)"', client.get("/ui/").text)[0]
    file = client.get(address)
    assert file.content == load_assets()["site.css"].content
    assert "immutable" in file.headers["cache-control"]
    for other in (
        address.replace("site.css", "../site.py"),
        address.replace("site.css", "none.css"),
        "/ui/static/x/site.css",
    ):
        assert client.get(other).status_code == 404


def test_a_name_cannot_command_the_page(world: World, client: TestClient, patch: Patched) -> None:
    with world.services.database.write() as session:
        Patches(session).get(patch.id).name = HOSTILE
        Versions(session).get(patch.version).name = HOSTILE
        Datasets(session).get(patch.task).name = HOSTILE
    for path in paths(patch):
        text = client.get(path).text
        assert "<script>alert" not in text, path
        assert not re.search("[\x1b\u202e\u2066]", text), path


def test_the_address_of_the_service_leads_browsers_to_the_pages(client: TestClient) -> None:
    answer = client.get("/", headers=HTML, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/")
    assert client.get("/ui", follow_redirects=False).headers["location"] == "/ui/"


def test_an_error_is_a_page_that_says_what_to_do(client: TestClient) -> None:
    for path, status in (("/ui/patches/pt_none", 404), ("/ui/nothing", 404), ("/ui/versions/x", 422)):
        page = client.get(path)
        assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert "default-src 'none'" in page.headers["content-security-policy"]


def test_whoever_is_not_logged_in_is_sent_to_the_login_and_back(keyed: World) -> None:
    keyed.client.cookies.clear()
    away = keyed.client.get("/ui/versions?ref=a", follow_redirects=False)
    assert away.headers["location"] == "/paint/ui/login?next=/ui/versions%3Fref%3Da"
    form = {"key": BOOTSTRAP, "next": "/ui/versions?ref=a"}
    back = keyed.client.post("/ui/login", data=form, follow_redirects=False)
    assert (back.status_code, back.headers["location"]) == (303, "/paint/ui/versions?ref=a")
    assert "HttpOnly" in back.headers["set-cookie"]
    page = keyed.client.get("/paint/ui/versions")
    assert page.status_code == 200
    assert 'href="/paint/ui/patches"' in page.text
    csrf = re.findall(r'name="csrf" value="([^"]+)"', page.text)[0]
    assert keyed.client.post("/paint/ui/logout", data={"csrf": "x"}).status_code == 403
    assert keyed.client.post("/paint/ui/logout", data={"csrf": csrf}, follow_redirects=False).status_code == 303
    assert keyed.client.get("/paint/ui/versions", follow_redirects=False).status_code == 303


@pytest.mark.parametrize("key", ["", "wrong", "paintbox_0000000000000000_wrong", "é" * 10])
def test_a_wrong_key_opens_nothing(keyed: World, key: str) -> None:
    keyed.client.cookies.clear()
    answer = keyed.client.post("/ui/login", data={"key": key}, follow_redirects=False)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "invalid" in answer.text


@pytest.mark.parametrize(
    "target", ["https://example.org/", "//example.org", "/ui//example.org", "/v1/keys", "javascript:x", "/ui/\r\nx"]
)
def test_a_login_leads_only_to_pages_of_this_service(keyed: World, target: str) -> None:
    answer = keyed.client.post("/ui/login", data={"key": BOOTSTRAP, "next": target}, follow_redirects=False)
    assert answer.headers["location"] == "/paint/ui/"
    keyed.client.cookies.clear()


def test_a_login_from_another_site_is_refused(keyed: World) -> None:
    headers = {"sec-fetch-site": "cross-site"}
    assert keyed.client.post("/ui/login", data={"key": BOOTSTRAP}, headers=headers).status_code == 403


def test_a_page_shows_what_the_key_allows(keyed: World) -> None:
    reader, user = (make(keyed, scope, token=BOOTSTRAP)["token"] for scope in ("read", "classify"))
    assert "/ui/keys" not in keyed.client.get("/ui/", headers=bearer(reader)).text
    assert "/ui/datasets/new" not in keyed.client.get("/ui/datasets", headers=bearer(reader)).text
    assert keyed.client.get("/ui/keys", headers=bearer(reader)).status_code == 403
    assert keyed.client.get("/ui/versions", headers=bearer(user)).status_code == 403
    led = keyed.client.get("/ui/", headers=bearer(user))
    assert led.status_code == 200
    assert "/ui/versions" not in led.text
    assert 'href="/paint/ui/playground"' in led.text
    assert keyed.client.get("/ui/playground", headers=bearer(user)).status_code == 200


def test_pages_of_a_foreign_host_are_refused_while_there_is_no_key(client: TestClient) -> None:
    assert client.get("/ui/", headers={"host": "rebound.example.org"}).status_code == 403


def test_the_page_and_the_report_say_whether_an_index_of_the_base_can_be_kept(world: World, client: TestClient) -> None:
    patched = add_patch(world)
    task = {"dataset_id": patched.task, "name": "digits", "num_images": 40, "mean_cosine": 0.9, "recall": 0.75}
    found = {"neighbours": 10, "num_images": 40, "mean_cosine": 0.9123, "recall": 0.75, "tasks": [task]}
    with world.services.database.write() as session:
        row = Patches(session).get(patched.id)
        row.report = {**(row.report or {}), "embeddings": found}
    for address in (f"/ui/patches/{patched.id}", f"/v1/patches/{patched.id}/report.html"):
        text = client.get(address).text
        assert "75.0 %" in text or "75.0%" in text
        assert "0.9123" in text


def test_a_version_can_be_downloaded_in_the_formats_that_work_for_it(client: TestClient, patch: Patched) -> None:
    text = client.get(f"/ui/versions/{patch.version}").text
    links = re.findall(rf"/v1/versions/{patch.version}/export\?format=(\w+)", text)
    assert links[0] == "open_clip"
    assert "transformers" not in links  # which has no ConvNeXt
