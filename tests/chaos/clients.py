"""A client that asks for jobs over HTTP until each is acknowledged, whatever happens to the API meanwhile."""

import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from tests.builders import digit_members, write_zip

_PAUSE_SECONDS = 0.1


@dataclass
class Asked:
    """What was asked for and what was answered; `jobs` are those acknowledged, by the key of the request."""

    jobs: dict[str, str] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    repeated: int = 0
    refusals: list[str] = field(default_factory=list)
    done: bool = False


class Client:
    """Sends a request again until somebody answers it."""

    def __init__(self, url: str, asked: Asked) -> None:
        self._http = httpx2.Client(base_url=url, timeout=10.0, trust_env=False)
        self._asked = asked

    def send(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Return the answer; one that refuses for good is kept as a refusal."""
        while True:
            try:
                response = self._http.request(method, path, **options)
            except httpx2.TransportError:
                self._asked.repeated += 1
                time.sleep(_PAUSE_SECONDS)
                continue
            if response.status_code >= 500:
                self._asked.repeated += 1
                time.sleep(_PAUSE_SECONDS)
                continue
            if response.status_code >= 400 and response.status_code != 409:
                self._asked.refusals.append(f"{method} {path}: {response.status_code} {response.text}")
            answer: dict[str, Any] = response.json()
            return answer

    def upload(self, path: Path, name: str) -> dict[str, Any]:
        """Upload an archive; the same bytes are the same data set, however often they are sent."""
        data = path.read_bytes()
        return self.send("POST", "/v1/datasets", data={"name": name}, files={"archive": (path.name, data)})


def prepare(url: str, folder: Path) -> str:
    """Upload a data set in peace and return its id once it is ready."""
    client = Client(url, Asked())
    archive = write_zip(folder / "digits.zip", digit_members(range(2), train=3, val=2, test=2))
    dataset = client.upload(archive, "digits")
    deadline = time.monotonic() + 60
    while client.send("GET", f"/v1/datasets/{dataset['id']}")["state"] != "ready":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return str(dataset["id"])


def ask(url: str, folder: Path, dataset: str, num_jobs: int, seed: int) -> Asked:
    """Ask for so many jobs in a thread of its own, and return at once what will fill up.

    One in ten is the ingest of an upload, the rest are patches; one in twenty is cancelled again.
    """
    asked, source = Asked(), random.Random(seed)

    def work() -> None:
        try:
            ask_all(Client(url, asked))
        except Exception as error:  # the run's last word on it, instead of a run that never ends
            asked.refusals.append(f"the client stopped: {error!r}")
        asked.done = True

    def ask_all(client: Client) -> None:
        for number in range(num_jobs):
            key = f"request {number}"
            asked.jobs[key] = _ask_for_one(client, folder, dataset, number, key, source)
            if source.random() < 0.05:
                asked.cancelled.add(asked.jobs[key])
                client.send("POST", f"/v1/jobs/{asked.jobs[key]}/cancel")
            time.sleep(source.uniform(0, 0.5))  # so that some requests meet an API that is down

    threading.Thread(target=work, name="client", daemon=True).start()
    return asked


def _ask_for_one(client: Client, folder: Path, dataset: str, number: int, key: str, source: random.Random) -> str:
    if number % 10 == 5:
        members = digit_members(range(2), train=3 + number % 100, val=2 + number // 100, test=2)
        archive = write_zip(folder / f"{number}.zip", members)
        return str(client.upload(archive, key)["job"]["id"])
    body = {"name": key, "tasks": [dataset], "finetune": {"iterations": source.randint(5, 25), "warmup_steps": 0}}
    headers = {"Idempotency-Key": key}
    return str(client.send("POST", "/v1/patches", json=body, headers=headers)["job"]["id"])
