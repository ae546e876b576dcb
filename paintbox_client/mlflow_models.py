"""A version as a version of a registered model of MLflow: its export as artifact, its aliases mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from paintbox_client.errors import InputError
from paintbox_client.mlflow_runs import VERSION_TAG, open_mlflow
from paintbox_client.resources.patches import Patch

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from paintbox_client.client import Client

_FOLDER, _CARD = "model", "README.md"


def register_model(client: Client, version: int, run: str, model: str, uri: str) -> str:
    """Return the number of the model version that holds a version's export, and mirror all aliases.

    The export, a folder that open_clip loads, and the card in it become artifacts of the run, unless a model version
    has this version already. Then every alias of the service that points at a version of the model is set as an alias
    of the model; aliases that point elsewhere are removed from it.

    Args:
        client: Of the service.
        version: To register.
        run: Id of a run of MLflow.
        model: Name of the registered model, which is created if needed.
        uri: Of the tracking server or store.

    Raises:
        InputError: MLflow is not installed, or refuses.
    """
    if "'" in model and '"' in model:
        raise InputError("MLflow cannot look for a name with both kinds of quotes.", "Choose another name.")
    with open_mlflow(uri) as mlflow:
        _create_model(mlflow, model)
        known = _versions(mlflow, model)
        if version not in known:
            known[version] = _add_version(client, mlflow, version, run, model)
        _mirror_aliases(mlflow, model, known, {each.name: each.version for each in client.aliases()})
        return known[version]


def _create_model(mlflow: MlflowClient, model: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        mlflow.get_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        mlflow.create_registered_model(model, description="Versions of Paintbox, each a folder that open_clip loads.")


def _versions(mlflow: MlflowClient, model: str) -> dict[int, str]:
    """Return the model versions by the versions of the service that they hold."""
    quote = "'" if "'" not in model else '"'
    found: dict[int, str] = {}
    token: str | None = None
    while token != "":
        page: Any = mlflow.search_model_versions(f"name = {quote}{model}{quote}", page_token=token or None)
        found |= {int(each.tags[VERSION_TAG]): str(each.version) for each in page if VERSION_TAG in each.tags}
        token = page.token or ""
    return found


def _add_version(client: Client, mlflow: MlflowClient, version: int, run: str, model: str) -> str:
    with TemporaryDirectory(prefix="paintbox-") as scratch:
        folder = Path(scratch) / _FOLDER
        client.export(version, folder)
        mlflow.log_artifacts(run, str(folder), _FOLDER)
        card = (folder / _CARD).read_text() if (folder / _CARD).exists() else ""
    tags = {VERSION_TAG: str(version)}
    made = mlflow.create_model_version(model, f"runs:/{run}/{_FOLDER}", run, tags=tags, description=card)
    return str(made.version)


def _mirror_aliases(mlflow: MlflowClient, model: str, known: dict[int, str], aliases: dict[str, int]) -> None:
    """Give the model the aliases of the service, by number of the model version."""
    from mlflow.exceptions import MlflowException

    wanted = {name: known[version] for name, version in aliases.items() if version in known}
    current = {name: str(number) for name, number in mlflow.get_registered_model(model).aliases.items()}
    for name in _stale(current, wanted):
        mlflow.delete_registered_model_alias(model, name)
    for name, number in wanted.items():
        if current.get(name) == number:
            continue
        try:
            mlflow.set_registered_model_alias(model, name, number)
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":  # it reserves names such as `latest` and `v1`
                raise


def _stale(current: dict[str, str], wanted: dict[str, str]) -> Sequence[str]:
    return [name for name in current if name not in wanted]


def need_version(patch: Patch) -> int:
    """Return the version of a finished patch.

    Raises:
        InputError: The patch has none.
    """
    if patch.report is None or patch.report.version_id is None:
        raise InputError(
            "The patch has no version to register.", "Leave out --mlflow-model, or choose a finished patch."
        )
    return patch.report.version_id
