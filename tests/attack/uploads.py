"""Abusive uploads: archives that cost more to look at than to send, and more to keep than they hold."""

import asyncio
import itertools

from tests.attack import inputs
from tests.attack.attacker import Attacker, abuse

_numbers = itertools.count()


@abuse
async def archive_directories(attacker: Attacker) -> None:
    """Directories and headers that cost more than what they tell of."""
    tar = await asyncio.to_thread(inputs.pax_tar)
    archive = await asyncio.to_thread(inputs.zip_of_many_entries)
    await attacker.repeat(
        *[lambda: attacker.upload("pax.tar", tar)] * 2, *[lambda: attacker.upload("many.zip", archive)] * 2
    )


@abuse
async def tables(attacker: Attacker) -> None:
    """Tables whose column names, rows and class names are hostile."""
    column = await asyncio.to_thread(inputs.parquet_of_long_column)
    rejects = await asyncio.to_thread(inputs.zip_of_rejects)
    names = await asyncio.to_thread(inputs.zip_of_hostile_names)
    await attacker.repeat(
        lambda: attacker.upload(f"column {next(_numbers)}", column),
        lambda: attacker.upload(f"rejects {next(_numbers)}", rejects),
        lambda: attacker.upload(f"names {next(_numbers)}", names),
        times=5,
    )
    await attacker.send("GET", "/v1/datasets?limit=100")
    await attacker.send("GET", "/v1/jobs?limit=100")


@abuse
async def announced_uploads(attacker: Attacker) -> None:
    """Resumable uploads of terabytes, announced and never sent."""
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(9 << 30)}
    await attacker.repeat(*[lambda: attacker.send("POST", "/v1/uploads", headers=headers)] * 4, times=50)
