"""Models on the Hugging Face hub, named `owner/name` or `owner/name@revision` (a branch, a tag or a commit).

The hub's own client moves the files: it keeps them in its cache, so what was there once is there without a network, and
goes on with what an interrupted transfer lacks. Where the hub is and who asks is set by the client's environment
(`HF_ENDPOINT`, `HF_HOME`, `HF_HUB_OFFLINE`, `HF_TOKEN`). No message names a token.
"""

import hashlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musiclm.core.artifact import ArtifactError, file_hash

CARD_FILE = "README.md"
OWN_FILES = (".gitattributes", CARD_FILE)  # of a repository that is new on the hub
_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
_HINTS = {
    401: "log in with `hf auth login`, or set HF_TOKEN",
    403: "the token that you are logged in with may not do this; make one that may",
    404: "check the name and the revision, and whether you are logged in if it is private",
    429: "too many requests; wait and try again",
}


@dataclass(frozen=True)
class HubId:
    """A repository on the hub, at a revision."""

    repo: str  # owner/name
    revision: str | None = None  # None: the branch `main`

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


def parse_id(text: str) -> HubId:
    """The repository that `owner/name` or `owner/name@revision` names. Raises: ValueError if it names none."""
    repo, at, revision = text.partition("@")
    parts = repo.split("/")
    names = len(parts) == 2 and all(_PART.fullmatch(part) and ".." not in part and "--" not in part for part in parts)
    if not names or (at and (not _REVISION.fullmatch(revision) or ".." in revision)):
        raise ValueError(f"{text!r} is no name of the hub; write it as owner/name or owner/name@revision")
    return HubId(repo, revision if at else None)


def is_id(text: str) -> bool:
    """Whether a text could name a repository of the hub."""
    try:
        parse_id(text)
    except ValueError:
        return False
    return True


def download(name: str, files: Sequence[str]) -> Path:
    """The folder of the cache with the files of a repository that match one of the patterns `files`.

    Without a network (`HF_HUB_OFFLINE=1`, or none there) it is what the cache has. The folder's name is the commit.

    Raises: ArtifactError if it can't be had, or huggingface_hub is not installed.
    """
    wanted = parse_id(name)
    with _client(f"{name!r} could not be downloaded", "give a folder"):
        import huggingface_hub

        return Path(
            huggingface_hub.snapshot_download(wanted.repo, revision=wanted.revision, allow_patterns=list(files))
        )


@dataclass(frozen=True)
class Pushed:
    """What `push` did."""

    commit: str  # of the repository as it is now
    num_new: int  # files that were not there, or others


def push(files: Mapping[str, Path | bytes], name: str, *, mark: str, message: str, private: bool = False) -> Pushed:
    """Makes a repository hold `files` (by their path there) and nothing else, in one commit: it never shows a half.

    It is made if it is not there; a revision is a branch, made too. What was uploaded before an interruption is not
    uploaded again, and files that are there already are left alone. mark: a file without which a repository that holds
    anything is not replaced.

    Raises: ValueError for a name that is none; ArtifactError if nobody is logged in, the hub refuses or can't be
    reached, or the repository holds something else.
    """
    wanted = parse_id(name)
    branch = wanted.revision or "main"
    with _client(f"{name!r} could not be pushed", "the same command goes on"):
        import huggingface_hub
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

        if huggingface_hub.get_token() is None:
            raise ArtifactError(f"nobody is logged in to the hub; {_HINTS[401]}")
        api = HfApi(library_name="musiclm")
        api.create_repo(wanted.repo, private=private or None, exist_ok=True)
        if branch != "main":
            api.create_branch(wanted.repo, branch=branch, exist_ok=True)
        entries = api.list_repo_tree(wanted.repo, recursive=True, revision=branch)
        there = {entry.path: entry for entry in entries if hasattr(entry, "blob_id")}
        if mark not in there and (others := sorted(there.keys() - set(OWN_FILES))):
            raise ArtifactError(f"{name!r} holds {others[0]} and no {mark}; it is not replaced, choose another name")
        new = {path: content for path, content in files.items() if path not in there or _differs(content, there[path])}
        gone = sorted(there.keys() - files.keys() - {".gitattributes"})
        if not new and not gone:
            return Pushed(str(api.repo_info(wanted.repo, revision=branch).sha), 0)
        added = [CommitOperationAdd(path, content) for path, content in new.items()]
        removed = [CommitOperationDelete(path) for path in gone]
        made = api.create_commit(wanted.repo, [*added, *removed], commit_message=message, revision=branch)
        return Pushed(made.oid, len(new))


def _differs(content: Path | bytes, entry: Any) -> bool:
    """Whether a file is another one than the hub has: it tells sha256 of large ones, git's sha1 of the others."""
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    if size != entry.size:
        return True
    if entry.lfs is not None:
        own = hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else file_hash(content)
        return own != str(entry.lfs.sha256)
    data = content if isinstance(content, bytes) else content.read_bytes()
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest() != str(entry.blob_id)


@contextmanager
def _client(what: str, remedy: str) -> Iterator[None]:
    """Around use of the hub's client: its bars only for people, its errors as a line without a token."""
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError
        from huggingface_hub.utils import disable_progress_bars
    except ImportError:
        raise ArtifactError(f"{what}: the hub needs huggingface_hub; install musiclm[hub]") from None
    huggingface_hub.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        yield
    except ArtifactError:
        raise
    except Exception as error:  # its network errors are of one library in some versions and of another in others
        cause: Any = error
        while cause.__cause__ is not None and not isinstance(cause, HfHubHTTPError):
            cause = cause.__cause__
        response = getattr(cause, "response", None)
        status = getattr(response, "status_code", None)
        hint = _HINTS.get(status, f"check the network, and {remedy}") if isinstance(status, int) else None
        if hint is None:
            hint = f"check the name and the network, or {remedy}"
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        reason = without_token(lines[0] if lines else type(cause).__name__)
        raise ArtifactError(f"{what} ({reason}); {hint}") from None


def without_token(text: str) -> str:
    """The text with the token that one is logged in with, and all that looks like one, blotted out."""
    import huggingface_hub

    token = huggingface_hub.get_token()
    if token:
        text = text.replace(token, "***")
    return re.sub(r"\bhf_[A-Za-z0-9_]{6,}|(?i:bearer)\s+\S+", "***", text)
