"""A client that does what clients do, and times it."""

import itertools
import math
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field

import httpx2

from tests.builders import digit_pngs

_PAUSE_SECONDS = 0.1


@dataclass
class Timings:
    """Of an honest client.

    Attributes:
        seconds: How long each request took, by the abuse that went on meanwhile.
        failures: Requests that were not answered as they should have been.
    """

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: list[str] = field(default_factory=list)

    def percentile(self, share: float, during: str | None = None) -> float:
        """Return a percentile of the times in seconds, of all or of those during one abuse; 0 if there are none."""
        chosen = self.seconds.get(during, []) if during else itertools.chain.from_iterable(self.seconds.values())
        ordered = sorted(chosen)
        return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)))] if ordered else 0.0


class HonestClient:
    """Asks one thing after the other in a thread of its own until it is stopped.

    Args:
        url: The service.
        token: With the scopes `read`, `classify` and `write`.
    """

    def __init__(self, url: str, token: str) -> None:
        self.during = "nothing"
        self.timings = Timings()
        self._stopped = threading.Event()
        self._http = httpx2.Client(base_url=url, timeout=120, headers={"authorization": f"Bearer {token}"})
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop, after the request that is under way."""
        self._stopped.set()
        self._thread.join()
        self._http.close()

    def _run(self) -> None:
        for number in itertools.count():
            if self._stopped.wait(_PAUSE_SECONDS):
                return
            method, path, body = self._request(number)
            during, start = self.during, time.monotonic()
            try:
                response = self._http.request(method, path, **body)
                status, text = response.status_code, response.text[:200]
            except httpx2.HTTPError as error:
                status, text = 0, f"{type(error).__name__}: {error}"
            self.timings.seconds[during].append(time.monotonic() - start)
            if not 200 <= status < 300:
                self.timings.failures.append(f"{method} {path} during {during}: {status} {text}")

    def _request(self, number: int) -> tuple[str, str, dict[str, object]]:
        image = {"images": ("0.png", digit_pngs(number % 10)[0])}
        new = f'["a {number} of clubs", "an {number} of hearts"]'
        requests: tuple[tuple[str, str, dict[str, object]], ...] = (
            ("POST", "/v1/classify", {"data": {"candidate_labels": '["zero", "one"]'}, "files": image}),
            ("POST", "/v1/classify", {"data": {"candidate_labels": new}, "files": image}),
            ("GET", "/v1/datasets?limit=20", {}),
            ("GET", "/v1/jobs?limit=20", {}),
            ("POST", "/v1/label-sets", {"json": {"name": "honest", "labels": [f"suit {number % 50}", "deck"]}}),
            ("GET", "/v1/aliases/active", {}),
        )
        return requests[number % len(requests)]
