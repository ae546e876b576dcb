"""Ready data sets whose shards are real files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app.main import Services
from contract.datasets import DatasetKind
from registry.datasets import DatasetContent, Datasets
from registry.shards import UNLABELLED, write_shard
from tests.app.world import add_ready_dataset
from tests.builders import digit_pngs

Row = tuple[bytes, str, int]
"""An image file, its name and its label."""


def give_images(services: Services, dataset_id: str) -> None:
    """Write shards for a ready data set that has none: as many images as it tells of, named `0.png`, `1.png`, …"""
    with services.database.write() as session:
        row = Datasets(session).get(dataset_id)
        num_classes = max(1, len(row.classnames or ()))
        row.shards = {
            split: _store(
                services, [(digit_pngs(0)[0], f"{each}.png", each % num_classes) for each in range(held["num_images"])]
            )
            for split, held in (row.shards or {}).items()
        }


def _store(services: Services, rows: Sequence[Row], classnames: Sequence[str] = (UNLABELLED,)) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "shard"
        write_shard(path, rows, tuple(classnames))
        return {"sha256": services.blobs.put_file(path), "num_images": len(rows)}


def add_stored_dataset(
    services: Services,
    classnames: Sequence[str],
    splits: Mapping[str, Sequence[Row]],
    kind: DatasetKind = DatasetKind.LABELLED,
) -> str:
    """The id of a new data set that is ready; a pool has no classes."""
    identifier = add_ready_dataset(services, classnames)
    shards = {split: _store(services, rows, classnames or (UNLABELLED,)) for split, rows in splits.items()}
    counts = {
        split: {name: sum(row[2] == label for row in rows) for label, name in enumerate(classnames)}
        for split, rows in splits.items()
    }
    with services.database.write() as session:
        datasets = Datasets(session)
        datasets.get(identifier).kind = kind
        datasets.complete(identifier, DatasetContent(tuple(classnames), (), shards, counts, [], decoder=2))
    return identifier
