"""Ready data sets whose shards are real files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from app.main import Services
from contract.datasets import DatasetKind
from registry.datasets import DatasetContent, Datasets
from registry.shards import UNLABELLED, write_shard
from tests.app.world import add_ready_dataset

Row = tuple[bytes, str, int]
"""An image file, its name and its label."""


def add_stored_dataset(
    services: Services,
    classnames: Sequence[str],
    splits: Mapping[str, Sequence[Row]],
    kind: DatasetKind = DatasetKind.LABELLED,
) -> str:
    """The id of a new data set that is ready; a pool has no classes."""
    identifier = add_ready_dataset(services, classnames)
    shards, counts = {}, {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "shard"
        for split, rows in splits.items():
            write_shard(path, rows, tuple(classnames) or (UNLABELLED,))
            shards[split] = {"sha256": services.blobs.put_file(path), "num_images": len(rows)}
            counts[split] = {name: sum(row[2] == label for row in rows) for label, name in enumerate(classnames)}
    with services.database.write() as session:
        datasets = Datasets(session)
        datasets.get(identifier).kind = kind
        datasets.complete(identifier, DatasetContent(tuple(classnames), (), shards, counts, [], decoder=2))
    return identifier
