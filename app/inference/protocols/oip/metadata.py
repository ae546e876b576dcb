"""What `/v2` tells of the server, of its one model and of the versions."""

from __future__ import annotations

from importlib.metadata import version

from app.http.errors import BaseNotLoadedError
from app.inference.protocols.oip.question import Output
from app.inference.protocols.oip.schemas import MODEL_NAME, ModelMetadata, ServerMetadata, TensorMetadata
from app.inference.protocols.oip.tensors import BYTES
from app.models.bases import Bases
from registry.aliases import Aliases
from registry.database import Database
from registry.versions import Versions

_ANY = -1
_INPUTS = [TensorMetadata(name=name, datatype=BYTES, shape=[_ANY]) for name in ("images", "labels", "templates")]
_OUTPUTS = [
    TensorMetadata(name=Output.SCORES, datatype="FP32", shape=[_ANY, _ANY]),
    TensorMetadata(name=Output.COSINES, datatype="FP32", shape=[_ANY, _ANY]),
    TensorMetadata(name=Output.LABELS, datatype=BYTES, shape=[_ANY]),
    TensorMetadata(name=Output.EMBEDDING, datatype="FP32", shape=[_ANY, _ANY]),
]


def describe_server() -> ServerMetadata:
    """Return what this server is."""
    extensions = ["binary_tensor_data", "classification", "parameters"]
    return ServerMetadata(name="paintbox", version=version("paintbox"), extensions=extensions)


def describe_model(database: Database, bases: Bases, name: int | str | None) -> ModelMetadata:
    """Return what the model takes and gives.

    Args:
        database: Holds it.
        bases: The loaded base models by fingerprint.
        name: Of a version, by id or by an alias; None: the model as such.

    Returns:
        With that version, or with all that this process can serve. Errors as for `find_version`.
    """
    versions = _all_versions(database, bases) if name is None else [find_version(database, bases, name)]
    return ModelMetadata(
        name=MODEL_NAME,
        versions=[str(each) for each in versions],
        platform="paintbox_open_clip",
        inputs=_INPUTS,
        outputs=_OUTPUTS,
    )


def find_version(database: Database, bases: Bases, name: int | str) -> int:
    """Return the id of a version that this process can serve.

    Args:
        database: Holds it.
        bases: The loaded base models by fingerprint.
        name: Id of a version, or an alias.

    Returns:
        Its id.

    Raises:
        BaseNotLoadedError: Its base is not loaded here.
    """
    with database.read() as session:
        version_id = name if isinstance(name, int) else Aliases(session).get(name).version_id
        row = Versions(session).get_not_trashed(version_id)
    if row.base_fingerprint not in bases:
        raise BaseNotLoadedError(row.base_fingerprint)
    return version_id


def _all_versions(database: Database, bases: Bases) -> list[int]:
    with database.read() as session:
        return list(Versions(session).ids_of_bases(bases))
