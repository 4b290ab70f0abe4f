"""From settings to a server that listens."""

import socket

import uvicorn

from musiclm.core.output import OutputError
from musiclm.generate.session import MusicLM
from musiclm.serve.app import create_app
from musiclm.serve.makers import warm_up
from musiclm.serve.settings import Settings
from musiclm.serve.store import Store

CLOSE_AFTER_S = 5  # that clients get the rest when the service is stopped


def run(settings: Settings, model: str, device: str) -> None:
    """Until a signal ends it. Raises: ValueError for a model, a folder or an address that can't be used."""
    with listen(settings.host, settings.port) as at:
        store = Store(settings.folder, settings.max_takes)
        loaded = MusicLM.from_pretrained(model, device)
        warm_up(loaded)
        app = create_app(loaded, store, settings)
        host, port = at.getsockname()[:2]
        name = f"[{host}]" if ":" in host else host
        print(f"loaded {loaded.bundle.name} ({loaded.bundle.hash}); takes are kept in {settings.folder}")
        print(f"the studio is at http://{name}:{port}/, the service below http://{name}:{port}/v1/", flush=True)
        config = uvicorn.Config(
            app,
            log_level="warning",
            timeout_graceful_shutdown=CLOSE_AFTER_S,
            limit_concurrency=None,
            server_header=False,
        )
        uvicorn.Server(config).run(sockets=[at])


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises: OutputError for an address that can't be used."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        at = socket.socket(family, kind, protocol)
        at.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        at.bind(address)
        at.listen(2048)
        return at
    except OSError as error:
        raise OutputError(f"can't listen at {host}:{port} ({error.strerror}); give another --host or --port") from None
