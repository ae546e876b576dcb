"""Methods of the client for the images of data sets."""

from __future__ import annotations

from paintbox_client.resources.datasets import DatasetImage
from paintbox_client.transport import Transport

_THUMBNAIL_SECONDS = 60.0


class GalleryCalls:
    """Methods of `Client` for the images of data sets."""

    _transport: Transport

    def dataset_images(
        self,
        dataset_id: str,
        split: str | None = None,
        label: str | None = None,
        limit: int = 100,
        file: str | None = None,
    ) -> list[DatasetImage]:
        """Return at most `limit` images of a ready data set, in the order of splits and rows.

        Args:
            dataset_id: The data set.
            split: Only those of `train`, `validation` or `test`.
            label: Only those of this class.
            limit: Maximum number of images.
            file: Only those with this path in the upload.
        """
        given = {"split": split, "label": label, "file": file}
        query = {name: value for name, value in given.items() if value is not None}
        return [
            DatasetImage(each) for each in self._transport.items(f"/v1/datasets/{dataset_id}/images", limit, **query)
        ]

    def thumbnail(self, dataset_id: str, split: str, row: int, size: int = 128) -> bytes:
        """Return a thumbnail of an image as a WebP file.

        Args:
            dataset_id: The data set.
            split: Split of the image.
            row: Its row in the split, from 0.
            size: Maximum length of the longer side in pixels: 64, 128, 256 or 512.
        """
        path = f"/v1/datasets/{dataset_id}/images/{split}/{row}?size={size}"
        with self._transport.download(path, _THUMBNAIL_SECONDS) as file:
            return file.read()
