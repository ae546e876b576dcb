"""The part of the client that uploads, reads and derives data sets."""

from __future__ import annotations

import json
import os
import secrets
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from paintbox_client.archives import open_archive, title_of
from paintbox_client.errors import ApiError, InputError
from paintbox_client.records import JsonObject
from paintbox_client.resources.datasets import Dataset
from paintbox_client.resumable import PART_BYTES, send_in_parts
from paintbox_client.transport import Transport

_SENT_AT_ONCE_BYTES = 2 * PART_BYTES  # larger files go in parts, which survive a broken connection
_ELSEWHERE = "upload_elsewhere"
_UPLOAD_SECONDS = 3600.0  # the service answers an upload once all of it is on its disk


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=2)


class DatasetCalls:
    """Methods of `Client` for data sets."""

    _transport: Transport

    def upload_dataset(
        self,
        path: str | os.PathLike[str],
        name: str | None = None,
        templates: Sequence[str] = (),
        classnames: Mapping[str, str] | None = None,
        manifest: str | None = None,
        webhook_url: str | None = None,
        *,
        unlabelled: bool = False,
        on_note: Callable[[str], None] = _warn,
        layout: str | None = None,
        root: str | None = None,
        class_level: int | None = None,
        split_of: Mapping[str, str] | None = None,
        path_column: str | None = None,
        label_column: str | None = None,
    ) -> Dataset:
        """Return the data set of an upload, with the job that ingests it; the same upload returns the same data set.

        Args:
            path: A zip, tar, tar.gz, tar.zst or Parquet file in one of the layouts of docs/datasets.md, or a folder,
                which is sent as a zip.
            name: Display name; need not be unique. Default: the file's or folder's name.
            templates: Prompts with `{}`; default: those in the upload, else the base model's own.
            classnames: From class to the name that prompts use.
            manifest: Path of the CSV manifest in the upload, if it is not beside the images.
            webhook_url: Notified when the job has ended, at a host that the operator allows.
            unlabelled: Whether it is a pool of images for `anchors`, in whatever folders they are.
            on_note: Called with the files of a folder that could not be sent; default: a Python warning.
            layout: Read it in this layout; default: detected.
            root: Folder in the upload to read.
            class_level: Which folder below the root names the class, from 1.
            split_of: From folders or files to `train`, `validation`, `test` or `ignore`; empty: nothing names a split.
            path_column: Column of a table that names the images.
            label_column: Column of a table that names the classes.

        Returns:
            The data set, `ingesting` or, if it existed already, in its current state.

        Raises:
            InputError: There is no such file or folder.
        """
        source = Path(path)
        if not source.exists():
            raise InputError(f"No such file or folder: {str(path)[:200]!r}.", "Choose an archive or a folder.")
        form: JsonObject = {"name": name or title_of(source)}
        if templates:
            form["templates"] = json.dumps(list(templates))
        if classnames:
            form["classnames"] = json.dumps(dict(classnames), sort_keys=True)
        if manifest is not None:
            form["manifest"] = manifest
        if unlabelled:
            form["kind"] = "pool"
        if webhook_url is not None:
            form["webhook_url"] = webhook_url
        reading: JsonObject = {"layout": layout, "root": root, "class_level": class_level}
        reading |= {"path_column": path_column, "label_column": label_column}
        reading["split_of"] = None if split_of is None else json.dumps(dict(split_of), sort_keys=True)
        form |= {field: value for field, value in reading.items() if value is not None}
        with open_archive(source, on_note) as (file_name, stream):
            if stream.seek(0, os.SEEK_END) > _SENT_AT_ONCE_BYTES:
                try:
                    return self._submit(form | {"upload": send_in_parts(self._transport, stream)})
                except (
                    ApiError
                ) as error:  # several API processes without a common folder: whole files go to any of them
                    if error.code != _ELSEWHERE:
                        raise
            stream.seek(0)
            return self._submit(form, files={"archive": (file_name, stream, "application/octet-stream")})

    def collect_dataset(
        self,
        name: str,
        sources: Sequence[Mapping[str, Any]],
        templates: Sequence[str] | None = None,
        webhook_url: str | None = None,
        *,
        splits: str = "keep",
        allow_test_images: bool = False,
        unlabelled: bool = False,
    ) -> Dataset:
        """Return a data set of images of others, with the job that copies them; nothing is uploaded.

        Args:
            name: Display name; need not be unique.
            sources: Each names a `dataset` and optionally `split`, `rows` or `label`, or an `evaluation` and optionally
                `version`, `wrong`, `label`, `predicted` or `changed`; and optionally `as_split` and `as_label`.
            templates: Prompts with `{}`; default: those of the first source; empty: the base model's own.
            webhook_url: Notified when the job has ended, at a host that the operator allows.
            splits: Split of images without `as_split`: `keep`, as in the source, or `by_content`.
            allow_test_images: Whether images of a test split of the sources may be in `train` or `validation`.
            unlabelled: Whether it is a pool of images for `anchors`.

        Returns:
            The data set, `ingesting` or, if it existed already, in its current state.
        """
        body: JsonObject = {"name": name, "from": [dict(source) for source in sources], "splits": splits}
        optional: JsonObject = {
            "templates": None if templates is None else list(templates),
            "webhook_url": webhook_url,
            "allow_test_images": allow_test_images or None,
            "kind": "pool" if unlabelled else None,
        }
        body |= {field: value for field, value in optional.items() if value is not None}
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        answer = self._transport.send("POST", "/v1/datasets/collect", may_repeat=True, json=body, headers=headers)
        return Dataset(answer, self._transport)

    def dataset(self, dataset_id: str) -> Dataset:
        """Return a data set: state, classes, images per split, files that were left out, duplicates across splits."""
        return Dataset(self._transport.get(f"/v1/datasets/{dataset_id}"), self._transport)

    def rename_dataset(self, dataset_id: str, name: str) -> Dataset:
        """Return the data set under another name; its id stays."""
        path = f"/v1/datasets/{dataset_id}"
        return Dataset(self._transport.send("PATCH", path, may_repeat=True, json={"name": name}), self._transport)

    def delete_dataset(self, dataset_id: str, force: bool = False) -> None:
        """Delete a data set permanently.

        With `force`, even if ended patches name it, which cannot be retried then.
        """
        self._transport.send("DELETE", f"/v1/datasets/{dataset_id}", params={"force": force})

    def derive_dataset(
        self,
        dataset_id: str,
        name: str,
        classnames: Mapping[str, str] | None = None,
        templates: Sequence[str] | None = None,
    ) -> Dataset:
        """Return a new data set with the images of another one and other words; nothing is uploaded.

        Args:
            dataset_id: The other data set, which must be ready.
            name: Display name; the same name and words return the same data set.
            classnames: From the current name of a class to the new one; others stay.
            templates: Prompts with `{}`; default: those of the other data set; empty: the base model's own.
        """
        body: JsonObject = {"name": name, "classnames": dict(classnames or {})}
        if templates is not None:
            body["templates"] = list(templates)
        path = f"/v1/datasets/{dataset_id}/derive"
        return Dataset(self._transport.send("POST", path, may_repeat=True, json=body), self._transport)

    def _submit(self, form: JsonObject, **options: Any) -> Dataset:
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        options |= {"data": form, "headers": headers, "timeout": _UPLOAD_SECONDS}
        return Dataset(self._transport.send("POST", "/v1/datasets", may_repeat=True, **options), self._transport)
