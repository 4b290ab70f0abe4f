"""Models pushed to a hub and opened from it, as a shell would, against a server of our own."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from musiclm.core.artifact import ArtifactError
from musiclm.core.bundle import Bundle, find_bundle, open_bundle
from musiclm.core.hub import HubId, is_id, parse_id
from musiclm.train.card import hub_card
from tests.forked import Ended, Server
from tests.hub import TOKEN, Hub, Repo

pytest.importorskip("huggingface_hub")
OWN = ("HF_ENDPOINT", "HF_HOME", "HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_XET")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as started:
        yield started


class Shell:
    """Commands with a hub, a cache and perhaps a token of their own."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self.hub, self.folder = hub, folder

    def __call__(self, *words: str | Path, token: str = TOKEN, offline: bool = False, cache: str = "cache") -> Ended:
        values = {
            "HF_ENDPOINT": self.hub.url,
            "HF_HOME": str(self.folder / cache),
            "HF_TOKEN": token,
            "HF_HUB_OFFLINE": str(int(offline)),
            "HF_HUB_DISABLE_XET": "1",
        }
        ended = forked(values).run(*words, cwd=self.folder)
        told = ended.out + ended.err
        assert TOKEN.encode() not in told and b"Bearer" not in told and b"Traceback" not in told, told
        return ended


_servers: dict[str, Server] = {}


def forked(values: dict[str, str]) -> Server:
    """The one server of this module; each command's environment is its own."""
    if "one" not in _servers:
        _servers["one"] = Server().__enter__()
    _servers["one"].environment = values
    return _servers["one"]


@pytest.fixture(scope="module", autouse=True)
def _stop() -> Iterator[None]:
    yield
    for server in _servers.values():
        server.__exit__()
    _servers.clear()


@pytest.fixture
def shell(hub: Hub, tmp_path: Path) -> Shell:
    return Shell(hub, tmp_path)


def line(ended: Ended, code: int = 1) -> str:
    """The one line of a command that failed."""
    text = ended.err.decode()
    assert ended.code == code and text.count("\n") == 1, ended
    return text


def pushed(shell: Shell, bundle: Bundle, name: str = "me/mine") -> str:
    """The commit that a push ends with."""
    ended = shell("push", bundle.folder, name)
    assert ended.code == 0, ended
    return ended.out.decode().split("@")[1].split(":")[0]


def test_names_of_the_hub() -> None:
    assert parse_id("a/b") == HubId("a/b") and parse_id("a/b@v1.0") == HubId("a/b", "v1.0")
    assert str(parse_id("a/b@refs/pr/1")) == "a/b@refs/pr/1"
    for wrong in ("a", "a/b/c", "/a/b", "./b", "../b", "a/b@", "a/b@../c", "a b/c", "a/b@-x", "a/b.", ""):
        assert not is_id(wrong)
        with pytest.raises(ValueError, match="owner/name@revision"):
            parse_id(wrong)


def test_what_is_pushed_makes_music_elsewhere(shell: Shell, hub: Hub, bundle: Bundle) -> None:
    commit = pushed(shell, bundle)
    files = hub.repos["me/mine"].commits[commit]
    own = {path.relative_to(bundle.folder).as_posix() for path in bundle.folder.rglob("*") if path.is_file()}
    assert set(files) == own | {".gitattributes"}
    assert all(path.endswith((".json", ".safetensors", ".md", ".gitattributes")) for path in files)
    here = shell("generate", "piano", "--duration", "0.5", "-o", "here.wav", "--model", bundle.folder)
    there = shell("generate", "piano", "--duration", "0.5", "-o", "there.wav", "--model", f"me/mine@{commit}", token="")
    assert (here.code, there.code) == (0, 0), there
    assert (shell.folder / "here.wav").read_bytes() == (shell.folder / "there.wav").read_bytes()


def test_the_card_has_what_the_hub_expects(shell: Shell, hub: Hub, bundle: Bundle) -> None:
    pushed(shell, bundle)
    card = hub.repos["me/mine"].commits[hub.repos["me/mine"].branches["main"]]["README.md"].decode()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["license"] == "other" and head["license_link"] == "README.md"
    assert head["pipeline_tag"] == "text-to-audio" and head["library_name"] == "musiclm" and "music" in head["tags"]
    assert card.endswith((bundle.folder / "README.md").read_text())
    base = yaml.safe_load(hub_card(open_bundle("base"), "cc-by-sa-4.0").split("---\n")[1])
    assert base["license"] == "cc-by-sa-4.0" and "license_name" not in base and base["datasets"]
    (result,) = base["model-index"][0]["results"]
    assert {one["name"] for one in result["metrics"]} >= {"semantic loss", "storm loss"} and "loss" in base["metrics"]
    from huggingface_hub import ModelCardData

    assert ModelCardData(**base).eval_results  # as the hub's own library reads them


def test_a_licence_is_the_hubs_and_not_two(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no licence of the hub"):
        hub_card(bundle, "GPL 2 or so")
    copy = open_bundle(shutil.copytree(bundle.folder, tmp_path / "copy"))
    (copy.folder / "README.md").write_text("---\nlicense: mit\n---\n# mine\n")
    assert hub_card(copy) == hub_card(copy, "mit") == "---\nlicense: mit\n---\n# mine\n"
    with pytest.raises(ValueError, match="metadata of its own"):
        hub_card(copy, "apache-2.0")


def test_a_push_again_uploads_what_is_new_alone(shell: Shell, hub: Hub, bundle: Bundle) -> None:
    commit = pushed(shell, bundle)
    assert pushed(shell, bundle) == commit  # no commit of nothing
    copy = Path(shutil.copytree(bundle.folder, shell.folder / "copy"))
    (copy / "README.md").write_text("# another\n")
    (copy / "notes.pt").write_bytes(b"\x80pickle")
    uploads = sum(count for asked, count in hub.asked.items() if asked.startswith("PUT /lfs"))
    ended = shell("push", copy, "me/mine")
    assert ended.code == 0 and b"1 of them new" in ended.out and b"left out" in ended.out and b"notes.pt" in ended.out
    assert sum(count for asked, count in hub.asked.items() if asked.startswith("PUT /lfs")) == uploads
    assert "notes.pt" not in hub.repos["me/mine"].commits[hub.repos["me/mine"].branches["main"]]


def test_an_interrupted_push_goes_on(shell: Shell, hub: Hub, bundle: Bundle) -> None:
    hub.fail_uploads_after = 2
    text = line(shell("push", bundle.folder, "me/mine"))
    assert "could not be pushed" in text and len(hub.objects) >= 2
    assert list(hub.repos["me/mine"].commits.values())[-1].keys() == {".gitattributes"}  # no half of a bundle
    held, hub.fail_uploads_after = set(hub.objects), None
    hub.asked.clear()
    pushed(shell, bundle)
    assert not [asked for asked in hub.asked if asked.startswith("PUT /lfs/") and asked[9:] in held]


def test_a_branch_of_its_own(shell: Shell, hub: Hub, bundle: Bundle) -> None:
    assert shell("push", bundle.folder, "me/mine@next", "--private").code == 0
    repo = hub.repos["me/mine"]
    assert repo.private and "bundle.json" in repo.commits[repo.branches["next"]]
    assert "bundle.json" not in repo.commits[repo.branches["main"]]
    assert shell("inspect", "me/mine@next").code == 0
    assert "log in" in line(shell("inspect", "me/mine@next", token="", cache="other"))


def test_a_repository_of_other_things_is_not_replaced(shell: Shell, hub: Hub, bundle: Bundle) -> None:
    hub.repos["me/mine"] = Repo()
    hub.repos["me/mine"].commit({"model.gguf": b"x", "README.md": b""})
    assert "holds model.gguf and no bundle.json" in line(shell("push", bundle.folder, "me/mine"))


def test_an_interrupted_download_goes_on(shell: Shell, hub: Hub, bundle: Bundle) -> None:
    hub.repos["me/large"] = Repo()
    hub.repos["me/large"].commit({"model.safetensors": bytes(25_000_000)})
    hub.cut["/model.safetensors"] = 15_000_000
    assert "is no bundle" in line(shell("inspect", "me/large"))  # but it was fetched whole
    (first,) = [int(text.removeprefix("bytes=").rstrip("-")) for text in hub.ranges]
    assert 0 < first <= 15_000_000
    pushed(shell, bundle)
    hub.fail["mulan/model.safetensors"] = 403  # the whole command fails, and the next one fetches what is missing
    assert "could not be downloaded" in line(shell("inspect", "me/mine", token="", cache="second"))
    hub.fail.clear()
    hub.asked.clear()
    assert shell("inspect", "me/mine", token="", cache="second").code == 0
    fetched = [asked for asked in hub.asked if asked.startswith("GET /me/mine/resolve") and "safetensors" in asked]
    assert any("mulan" in asked for asked in fetched) and len(fetched) < len(bundle.parts)


def test_without_a_network_the_cache_serves(shell: Shell, hub: Hub, bundle: Bundle) -> None:
    commit = pushed(shell, bundle)
    assert "could not be downloaded" in line(shell("inspect", "me/mine", offline=True))
    assert shell("inspect", "me/mine").code == 0
    hub.asked.clear()
    for name in ("me/mine", f"me/mine@{commit}"):
        ended = shell("generate", "piano", "--duration", "0.5", "-o", f"{len(name)}.wav", "--model", name, offline=True)
        assert ended.code == 0, ended
    assert not hub.asked
    hub.url = "http://127.0.0.1:9"  # where nothing answers
    assert shell("inspect", "me/mine").code == 0


def test_errors_are_a_line_without_the_token(shell: Shell, hub: Hub, bundle: Bundle) -> None:
    assert "check the name" in line(shell("inspect", "me/nothing"))
    pushed(shell, bundle)
    assert "revision" in line(shell("inspect", "me/mine@v9")).lower()
    assert "nobody is logged in" in line(shell("push", bundle.folder, "me/mine", token=""))
    assert "log in" in line(shell("push", bundle.folder, "me/other", token="hf_wrongwrongwrong"))
    assert "owner/name" in line(shell("push", bundle.folder, "mine"), 2)
    assert "no bundle" in line(shell("push", shell.folder, "me/mine"))
    assert "is no folder" in line(shell("push", "nowhere", "me/mine"))
    # no status after which the client asks again, for a minute
    for part, status in (("/api/repos/create", 403), ("/tree/", 403), ("/lfs/objects/batch", 400), ("/commit/", 500)):
        hub.fail = {part: status}
        assert "could not be pushed" in line(shell("push", bundle.folder, "me/new"))
    hub.fail = {}
    damaged = Path(shutil.copytree(bundle.folder, shell.folder / "damaged"))
    data = bytearray((damaged / "mulan" / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (damaged / "mulan" / "model.safetensors").write_bytes(data)
    assert "has hash" in line(shell("push", damaged, "me/damaged")) and "me/damaged" not in hub.repos


def test_tokens_are_blotted_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from musiclm.core.hub import without_token

    monkeypatch.setenv("HF_TOKEN", "plain-words")
    assert without_token("a plain-words b") == "a *** b"
    assert without_token("Authorization: Bearer hf_abcdefgh x") == "Authorization: *** x"
    assert without_token(f"url?token={TOKEN}") == "url?token=***"


def test_a_hub_id_without_a_network_is_one_line() -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(ArtifactError, match="nobody/nothing@v1"):
        find_bundle("nobody/nothing@v1")
