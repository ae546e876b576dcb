"""Commands that look closer: a patch along alpha, the answers of an evaluation, embeddings."""

from pathlib import Path

from tests.app.patched import add_interpolant, add_patch
from tests.builders import digit_pngs
from tests.paintbox_client.conftest import Served
from tests.paintbox_client.inside import run


def test_a_patch_is_looked_at_along_alpha(served: Served) -> None:
    patch = add_patch(served.world)
    add_interpolant(served.world, patch)
    url = ("--url", served.url)
    shown = run(*url, "curve", patch.id, "--alpha", "0.5")
    assert "ACCURACY" in shown.out
    assert "Alpha 0.5" in shown.err
    found = run(*url, "curve", patch.id, "--alpha", "0.5", "--json").json
    assert found == served.client.patch_curve(patch.id, 0.5)
    changed = served.client.patch_changes(patch.id, patch.task, limit=20)
    assert run(*url, "changes", patch.id, "--task", patch.task, "--json").json == changed
    assert "BEFORE" in run(*url, "changes", patch.id, "--task", patch.task, "--to", "1").out


def test_embeddings_are_printed_as_json(served: Served, tmp_path: Path) -> None:
    image = tmp_path / "one.png"
    image.write_bytes(digit_pngs(1)[0])
    url = ("--url", served.url)
    of_image = run(*url, "embed", str(image), "--json").json
    assert of_image["embeddings"] == served.client.embed(image)["embeddings"]
    of_texts = run(*url, "embed", "--text", "a cat", "--text", "a dog", "--json").json
    assert len(of_texts["embeddings"]) == 2
    assert f"OF {of_texts['dim']} NUMBERS" in run(*url, "embed", "--text", "a cat").out
    assert run(*url, "embed").status == 2
