"""`paintbox label-studio`: serves the backend until it is stopped."""

from __future__ import annotations

import ipaddress
import logging
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from paintbox_client import InputError
from paintbox_client.connection import open_client
from paintbox_label_studio.app import create_app
from paintbox_label_studio.settings import Settings


def label_studio(
    ctx: typer.Context,
    address: Annotated[
        str, typer.Option("--label-studio", envvar="LABEL_STUDIO_URL", help="Address of Label Studio.")
    ] = "http://localhost:8080",
    token: Annotated[
        str | None, typer.Option(envvar="LABEL_STUDIO_API_KEY", help="Token of a user of Label Studio, to read images.")
    ] = None,
    local_files: Annotated[
        Path | None,
        typer.Option(
            envvar="LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT",
            help="Folder of Label Studio's local storage, to read images.",
        ),
    ] = None,
    image_host: Annotated[
        list[str] | None,
        typer.Option(help="Another address that images may be fetched from, such as a bucket's; repeatable."),
    ] = None,
    version: Annotated[str, typer.Option(help="Version or alias that answers.")] = "active",
    template: Annotated[list[str] | None, typer.Option(help="Prompt with {}; repeatable.")] = None,
    all_annotations: Annotated[
        bool, typer.Option("--all", help="Send annotations that agree with the answer as feedback, too.")
    ] = False,
    user: Annotated[
        str | None, typer.Option(envvar="PAINTBOX_LABEL_STUDIO_USER", help="User that Label Studio must send.")
    ] = None,
    password: Annotated[
        str | None, typer.Option(envvar="PAINTBOX_LABEL_STUDIO_PASSWORD", help="Password that Label Studio must send.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="TCP port.")] = 9090,
) -> None:
    """Serve the predictions of Paintbox to Label Studio, and send its annotations as feedback, until Ctrl-C."""
    login = _login(user, password, host)
    settings = Settings(
        label_studio=address,
        token=token,
        local_files=local_files,
        image_hosts=tuple(image_host or ()),
        version=version,
        templates=tuple(template or ()),
        sends_all=all_annotations,
        password=login,
    )
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    with open_client(ctx) as client:
        client.find_version(version)
        uvicorn.run(create_app(settings, client), host=host, port=port, log_level="warning", server_header=False)


def _login(user: str | None, password: str | None, host: str) -> tuple[str, str] | None:
    """Return user and password, which whoever listens beyond this machine needs.

    Raises:
        InputError: Only one of them is given, or none where it is needed.
    """
    if user and password:
        return user, password
    if user or password:
        raise InputError("User and password belong together.", "Give --user and --password.")
    if not _is_loopback(host):
        raise InputError(f"Anyone who reaches {host} could use this backend.", "Give --user and --password.")
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
