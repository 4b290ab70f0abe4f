"""A service of random tiny weights, listening at a port of this machine."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from musiclm.core.bundle import Bundle
from musiclm.generate.session import MusicLM
from musiclm.serve.app import create_app
from musiclm.serve.run import listen
from musiclm.serve.settings import Settings
from musiclm.serve.store import Store


class Service:
    """A running service, and a client of it."""

    def __init__(self, settings: Settings, model: MusicLM) -> None:
        self.settings, self.model = settings, model
        self._socket = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.app = create_app(model, Store(settings.folder, settings.max_takes), settings)
        self._server = uvicorn.Server(uvicorn.Config(self.app, log_level="error", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)
        until(lambda: self._server.started)

    @property
    def jobs(self) -> Any:
        return self.app.state.jobs

    def stop(self) -> None:
        self.client.close()
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()

    def made(self, verb: str, **request: Any) -> dict[str, Any]:
        """The take that a job makes."""
        job = self.client.post(f"/v1/{verb}", json=request, headers={"accept": "application/json"})
        assert job.status_code == 202, job.text
        return self.ended(job.json()["id"])

    def ended(self, job: str) -> dict[str, Any]:
        """A job once it has ended; its take if it has made one."""
        until(lambda: self.client.get(f"/v1/jobs/{job}").json()["state"] not in ("waiting", "running"))
        told = self.client.get(f"/v1/jobs/{job}").json()
        assert told["error"] is None and told["state"] == "done", told
        return dict(self.client.get(f"/v1/takes/{told['take']}").json())


@contextlib.contextmanager
def serving(bundle: Bundle, folder: Path, model: MusicLM | None = None, **settings: Any) -> Iterator[Service]:
    """A service until the block ends."""
    asked = Settings(folder=folder, **{"requests_per_minute": 100_000, "workers": 1, **settings})
    service = Service(asked, model or MusicLM.from_pretrained(bundle.folder))
    try:
        yield service
    finally:
        service.stop()


def until(reached: Any, timeout_s: float = 180.0) -> None:
    """Waits for what must come."""
    end = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


class SlowModel:
    """A model whose music takes a while, so that there is something to wait for: it makes what the real one makes."""

    def __init__(self, model: MusicLM, seconds_a_step: float = 0.01) -> None:
        self._model, self._seconds_a_step = model, seconds_a_step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def stream(self, prompt: Any, duration_s: float, seed: int, config: Any, on_progress: Any, *rest: Any, **more: Any):  # type: ignore[no-untyped-def]
        def slowed(stage: str, done: int, total: int) -> None:
            time.sleep(self._seconds_a_step)
            on_progress(stage, done, total)

        return self._model.stream(prompt, duration_s, seed, config, slowed, *rest, **more)
