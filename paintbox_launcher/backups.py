"""`paintbox backup` and `paintbox restore-backup`: an installation to a folder or a file, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from registry.backups.create import BackupResult, BackupWriter, create_backup
from registry.backups.folder import BackupFolder
from registry.backups.restore import RestoreResult, Snapshot, open_snapshot, restore_backup
from registry.backups.tar_file import TarFile
from registry.database import Database
from registry.errors import ConfigurationError, RegistryError
from registry.private_files import make_files_private
from registry.settings import StorageSettings
from registry.startup import open_database

_TAR = ".tar"
_USAGE_STATUS = 2

DataDir = Annotated[
    Path | None,
    typer.Option(envvar="PAINTBOX_DATA_DIR", help="Data directory. Default: `paintbox` in the user's data folder."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def backup(
    target: Annotated[
        Path, typer.Argument(metavar="FOLDER|FILE.tar", help="Folder, which keeps several snapshots, or a tar file.")
    ],
    data_dir: DataDir = None,
    keep: Annotated[int, typer.Option(min=1, help="Number of snapshots that a folder keeps.")] = 7,
    hard_links: Annotated[
        bool, typer.Option("--hard-links", help="Link blobs instead of copying them, on the same disk.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Read all blobs in the folder, and copy damaged ones again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Back up an installation, also while it runs; exit status 1 if it lacks blobs that it needs."""
    make_files_private()
    console = _console(stderr=True)
    is_file = target.name.endswith(_TAR)
    writer: BackupWriter = TarFile(target) if is_file else BackupFolder(target, hard_links=hard_links)
    try:
        settings = _load_settings(data_dir)
        database = open_database(settings.resolved_database_url)
        try:
            result = create_backup(settings, database, writer, num_kept=keep, checks_all=check, say=console.print)
        finally:
            database.close()
    except (RegistryError, OSError) as error:
        raise _refused(console, error, as_json) from error
    _console().print(json.dumps(_describe_backup(result, target)) if as_json else _tell_backup(result, target))
    for sha256, user in result.damaged.items():
        console.print(f"Warning: blob {sha256} is missing or damaged in the installation: {user}.")
    if result.damaged:
        raise typer.Exit(1)


def restore_backup_command(
    source: Annotated[Path, typer.Argument(metavar="FOLDER|FILE.tar", help="What `paintbox backup` wrote.")],
    data_dir: Annotated[Path, typer.Option(envvar="PAINTBOX_DATA_DIR", help="New or empty data directory.")],
    snapshot: Annotated[str | None, typer.Option(help="Snapshot of a folder, by name. Default: the newest.")] = None,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Restore the rest if blobs of the backup are damaged.")
    ] = False,
    verify: Annotated[bool, typer.Option(help="Verify database, blobs and versions afterwards.")] = True,
    as_json: AsJson = False,
) -> None:
    """Restore an installation into an empty data directory, and verify it; exit status 1 if something is damaged."""
    make_files_private()
    console = _console(stderr=True)
    try:
        settings = _load_settings(data_dir)
        opened = open_snapshot(source, snapshot)
        database = open_database(settings.resolved_database_url)
        try:
            result = restore_backup(opened, settings, database, skips_damaged=skip_damaged, say=console.print)
            findings = _verify(settings, database) if verify else []
        finally:
            database.close()
    except (RegistryError, OSError) as error:
        raise _refused(console, error, as_json) from error
    told = _describe_restore(opened, result, findings)
    _console().print(json.dumps(told) if as_json else _tell_restore(told, settings.data_dir))
    for each in (each for each in findings if each["ok"] is not True):
        console.print(
            f"{'Damaged' if each['ok'] is False else 'Not checked'}: {each['what']} {each['name']}: {each['detail']}"
        )
    if told["num_damaged"] or result.skipped:
        raise typer.Exit(1)


def _verify(settings: StorageSettings, database: Database) -> list[dict[str, Any]]:
    from paintbox_launcher.verification import verify_installation  # loads torch, for seconds

    return [
        {"what": each.what, "name": each.name, "ok": each.ok, "detail": each.detail}
        for each in verify_installation(settings, database)
    ]


def _load_settings(data_dir: Path | None) -> StorageSettings:
    settings = StorageSettings.load(**({} if data_dir is None else {"data_dir": data_dir}))
    return StorageSettings.load(data_dir=settings.data_dir.absolute())


def _describe_backup(result: BackupResult, target: Path) -> dict[str, Any]:
    manifest = result.manifest
    return {
        "target": str(target),
        "snapshot": manifest.name,
        "revision": manifest.database.revision,
        "database_bytes": manifest.database.num_bytes,
        "rows": sum(manifest.database.rows.values()),
        "blobs": len(manifest.blobs),
        "blob_bytes": sum(manifest.blobs.values()),
        "copied_blobs": result.num_copied,
        "copied_bytes": result.copied_bytes,
        "bucket": manifest.bucket,
        "damaged": result.damaged,
        "pruned": result.pruned,
    }


def _tell_backup(result: BackupResult, target: Path) -> str:
    told = _describe_backup(result, target)
    blobs = (
        f"its blobs stay in {told['bucket']}"
        if told["bucket"]
        else f"{told['blobs']:,} blobs, of which {told['copied_blobs']:,} were copied ({told['copied_bytes']:,} bytes)"
    )
    pruned = f"\nDeleted {len(result.pruned)} older snapshots." if result.pruned else ""
    return f"Snapshot {told['snapshot']} in {target}: {told['rows']:,} rows, {blobs}.{pruned}"


def _describe_restore(snapshot: Snapshot, result: RestoreResult, findings: list[dict[str, Any]]) -> dict[str, Any]:
    manifest = snapshot.manifest
    absent = {*manifest.missing, *result.skipped}
    return {
        "snapshot": manifest.name,
        "revision": manifest.database.revision,
        "rows": sum(manifest.database.rows.values()),
        "blobs": result.num_blobs,
        "skipped": result.skipped,
        "missing_in_backup": manifest.missing,
        "num_checked": len(findings),
        "num_damaged": sum(each["ok"] is False and each["name"] not in absent for each in findings),
        "findings": [each for each in findings if each["ok"] is not True],
    }


def _tell_restore(told: dict[str, Any], data_dir: Path) -> str:
    checked = (
        f"{told['num_checked']:,} checks, {told['num_damaged']} damaged" if told["num_checked"] else "not verified"
    )
    return (
        f"Restored snapshot {told['snapshot']} into {data_dir}: {told['rows']:,} rows, {told['blobs']:,} blobs; "
        f"{checked}.\nStart it with: paintbox up --data-dir {data_dir}"
    )


def _refused(console: Console, error: Exception, as_json: bool) -> typer.Exit:
    """Print an error and return the exit: 2 if something has to be corrected first, else 1."""
    status = _USAGE_STATUS if isinstance(error, ConfigurationError) else 1
    if as_json:
        code = error.code if isinstance(error, RegistryError) else "storage_unavailable"
        _console().print(json.dumps({"error": {"code": code, "detail": str(error), "exit_status": status}}))
    console.print(f"Error: {error}")
    return typer.Exit(status)


def _console(*, stderr: bool = False) -> Console:
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)
