"""Images of tasks come from the places that the operator named, and from no other."""

from pathlib import Path

import pytest

from paintbox_client import InputError
from paintbox_label_studio.images import ImageError, Images
from paintbox_label_studio.settings import Settings
from tests.builders import digit_pngs
from tests.paintbox_label_studio.conftest import TOKEN, ImageServer

PNG = digit_pngs(0)[0]


def test_an_image_is_fetched_from_label_studio_with_its_token(studio: ImageServer) -> None:
    studio.files = {"/data/upload/1/a.png": PNG}
    images = Images(Settings(studio.url, TOKEN))
    assert images.read("/data/upload/1/a.png") == images.read(f"{studio.url}/data/upload/1/a.png") == PNG
    assert studio.asked == [("/data/upload/1/a.png", f"Token {TOKEN}")] * 2
    with pytest.raises(ImageError, match="status 401"):
        Images(Settings(studio.url, "wrong")).read("/data/upload/1/a.png")
    with pytest.raises(ImageError, match="status 404"):
        images.read("/data/upload/1/b.png")


def test_a_personal_token_is_exchanged_once(studio: ImageServer) -> None:
    studio.files = {"/a.png": PNG}
    images = Images(Settings(studio.url, "a.b.c"))
    assert images.read("/a.png") == images.read("/a.png") == PNG
    assert [path for path, _ in studio.asked] == ["/api/token/refresh", "/a.png", "/a.png"]
    with pytest.raises(ImageError, match="rejects the token"):
        Images(Settings(studio.url, "x.y.z")).read("/a.png")


@pytest.mark.parametrize(
    "address",
    [
        "{elsewhere}/a.png",
        "//127.0.0.1:{port}/a.png",
        "http://localhost:{port}/a.png",
        "http://{own}@127.0.0.1:{port}/a.png",
        "/redirect",
        "file:///etc/passwd",
        "ftp://127.0.0.1/a.png",
        "s3://bucket/a.png",
        "data:image/png;base64,AAAA",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1",
        "a.png",
        "",
        None,
        7,
    ],
)
def test_no_other_address_is_asked(studio: ImageServer, elsewhere: ImageServer, address: object) -> None:
    elsewhere.files, elsewhere.needs_token = {"/a.png": b"secret"}, False
    studio.redirects = {"/redirect": f"{elsewhere.url}/a.png"}
    if isinstance(address, str):
        address = address.format(elsewhere=elsewhere.url, port=elsewhere.port, own=studio.url.removeprefix("http://"))
    with pytest.raises(ImageError):
        Images(Settings(studio.url, TOKEN)).read(address)
    assert elsewhere.asked == []


def test_a_host_that_is_allowed_gets_no_token(studio: ImageServer, elsewhere: ImageServer) -> None:
    elsewhere.files, elsewhere.needs_token = {"/a.png?sig=1": PNG}, False
    studio.redirects = {"/tasks/1/resolve/": f"{elsewhere.url}/a.png?sig=1"}
    images = Images(Settings(studio.url, TOKEN, image_hosts=[elsewhere.url]))
    assert images.read("/tasks/1/resolve/") == PNG
    assert elsewhere.asked == [("/a.png?sig=1", None)]
    studio.redirects = {"/again": "/again"}
    with pytest.raises(ImageError, match="redirects too often"):
        images.read("/again")


def test_an_image_over_the_limit_is_not_kept(studio: ImageServer, tmp_path: Path) -> None:
    studio.files = {"/a.png": b"x" * 100}
    with pytest.raises(ImageError, match="too large"):
        Images(Settings(studio.url, TOKEN, max_image_bytes=99)).read("/a.png")
    (tmp_path / "a.png").write_bytes(b"x" * 100)
    with pytest.raises(ImageError, match="too large"):
        Images(Settings(studio.url, local_files=tmp_path, max_image_bytes=99)).read("/data/local-files/?d=a.png")


def test_local_files_are_read_below_their_folder_only(studio: ImageServer, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "a b.png").write_bytes(PNG)
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "link.png").symlink_to(tmp_path / "secret")
    images = Images(Settings(studio.url, TOKEN, local_files=root))
    assert images.read("/data/local-files/?d=sub/a%20b.png") == PNG
    for name in ("../secret", f"{tmp_path}/secret", "link.png", "sub", "", "missing.png", "a%00b", "..%2fsecret"):
        with pytest.raises(ImageError):
            images.read(f"/data/local-files/?d={name}")
    assert studio.asked == []


def test_settings_that_cannot_work_are_refused(tmp_path: Path) -> None:
    for address in ("localhost:8080", "ftp://x", "http://", "http://user@host", "http://x:port"):
        with pytest.raises(InputError):
            Settings(address)
    with pytest.raises(InputError):
        Settings("http://localhost", local_files=tmp_path / "none")
    assert TOKEN not in repr(Settings("http://localhost", TOKEN, password=("user", TOKEN)))
