"""A small server that speaks as much of the Hugging Face hub's API as pushing and downloading models takes."""

import base64
import hashlib
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_secretsecretsecretsecretsecret"


@dataclass
class Repo:
    """Commits, each all files by path; branches by the number of theirs."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    private: bool = False

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        text = repr((sorted(files.items()), len(self.commits))).encode()
        sha = hashlib.sha1(text).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        return sha

    def at(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.branches.get(revision)


def is_large(path: str) -> bool:
    return path.endswith(".safetensors")


class Hub:
    """The server; use as a context. `url` is for HF_ENDPOINT."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}  # large files by sha256
        self.asked: Counter[str] = Counter()  # requests by method and path
        self.cut: dict[str, int] = {}  # by part of a path, after how many bytes the next answer of it ends
        self.fail: dict[str, int] = {}  # by part of a path, the status of every answer
        self.fail_uploads_after: int | None = None  # so many uploads of large files are taken, the others refused
        self.ranges: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def handle_all(self) -> None:
                hub.answer(self)

            do_GET = do_HEAD = do_POST = do_PUT = handle_all

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> "Hub":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    # -- answers

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(request.path).path)
        self.asked[f"{request.command} {path}"] += 1
        for part, status in self.fail.items():
            if part in path:
                # a careless server, which says who asked
                told = f"refused for {request.headers.get('Authorization')}"
                return self.send(request, status, {"error": told}, {"X-Error-Message": told})
        logged_in = request.headers.get("Authorization") == f"Bearer {TOKEN}"
        if request.command in ("POST", "PUT") and not logged_in and not path.startswith("/lfs/"):
            return self.send(request, 401, {"error": "Invalid username or password."})
        for method, pattern, handle in ROUTES:
            if method == request.command and (found := re.fullmatch(pattern, path)):
                repo = found.groupdict().get("repo")
                if repo is not None:
                    known = self.repos.get(repo)
                    if known is None or (known.private and not logged_in):
                        code = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
                        return self.send(request, 404 if logged_in else 401, {"error": "Repository not found"}, code)
                return handle(self, request, found, body)
        return self.send(request, 404, {"error": f"no such place {path}"})

    def send(
        self, request: BaseHTTPRequestHandler, status: int, answer: Any, headers: dict[str, str] | None = None
    ) -> None:
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        request.send_response(status)
        own = headers or {}
        for name, value in {"Content-Length": str(len(data)), **own}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "HEAD":
            return
        limit = next((self.cut.pop(part) for part in list(self.cut) if part in request.path), None)
        request.wfile.write(data[:limit])
        if limit is not None:
            request.wfile.flush()
            request.connection.shutdown(2)
            request.close_connection = True

    def create(self, request: BaseHTTPRequestHandler, found: "re.Match[str]", body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        url = {"url": f"{self.url}/{name}"}
        if name in self.repos:
            return self.send(request, 409, {"error": "You already created this model repo", **url})
        self.repos[name] = Repo(private=asked.get("visibility") == "private" or bool(asked.get("private")))
        self.repos[name].commit({".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
        return self.send(request, 200, url)

    def branch(self, request: BaseHTTPRequestHandler, found: "re.Match[str]", body: bytes) -> None:
        repo = self.repos[found["repo"]]
        if found["branch"] in repo.branches:
            return self.send(request, 409, {"error": "Reference already exists"})
        repo.branches[found["branch"]] = repo.branches["main"]
        return self.send(request, 200, {})

    def revision(self, request: BaseHTTPRequestHandler, found: "re.Match[str]", body: bytes) -> str | None:
        sha = self.repos[found["repo"]].at(found.groupdict().get("revision") or "main")
        if sha is None:
            code = {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"}
            self.send(request, 404, {"error": "Invalid rev id"}, code)
        return sha

    def info(self, request: BaseHTTPRequestHandler, found: "re.Match[str]", body: bytes) -> None:
        sha = self.revision(request, found, body)
        if sha is not None:
            files = [{"rfilename": path} for path in self.repos[found["repo"]].commits[sha]]
            told = {"id": found["repo"], "modelId": found["repo"], "sha": sha, "siblings": files}
            self.send(request, 200, {**told, "private": self.repos[found["repo"]].private, "tags": []})

    def tree(self, request: BaseHTTPRequestHandler, found: "re.Match[str]", body: bytes) -> None:
        sha = self.revision(request, found, body)
        if sha is None:
            return
        entries = []
        for path, data in self.repos[found["repo"]].commits[sha].items():
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": blob_id(data)}
            if is_large(path):
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            entries.append(entry)
        self.send(request, 200, entries)

    def preupload(self, request: BaseHTTPRequestHandler, found: "re.Match[str]", body: bytes) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if is_large(file["path"]) else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in json.loads(body)["files"]
        ]
        self.send(request, 200, {"files": files})

    def batch(self, request: BaseHTTPRequestHandler, found: "re.Match[str]", body: bytes) -> None:
        objects = []
        for one in json.loads(body)["objects"]:
            if one["oid"] not in self.objects:
                one["actions"] = {"upload": {"href": f"{self.url}/lfs/{one['oid']}"}}
            objects.append(one)
        self.send(request, 200, {"transfer": "basic", "objects": objects})

    def put(self, request: BaseHTTPRequestHandler, found: "re.Match[str]", body: bytes) -> None:
        if self.fail_uploads_after is not None and len(self.objects) >= self.fail_uploads_after:
            return self.send(request, 403, {"error": "the upload was cut off"})
        if hashlib.sha256(body).hexdigest() != found["oid"]:
            return self.send(request, 400, {"error": "another content"})
        self.objects[found["oid"]] = body
        return self.send(request, 200, {})

    def commit(self, request: BaseHTTPRequestHandler, found: "re.Match[str]", body: bytes) -> None:
        repo = self.repos[found["repo"]]
        files = dict(repo.commits[repo.branches[found["revision"]]])
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.objects[value["oid"]]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        sha = repo.commit(files, found["revision"])
        self.send(
            request, 200, {"success": True, "commitOid": sha, "commitUrl": f"{self.url}/{found['repo']}/commit/{sha}"}
        )

    def check_yaml(self, request: BaseHTTPRequestHandler, found: "re.Match[str]", body: bytes) -> None:
        import yaml

        head = re.match(r"---\n(.*?)\n---\n", json.loads(body)["content"], re.S)
        told = yaml.safe_load(head[1]) if head else {}
        errors = [{"message": f'"{name}" is missing'} for name in ("license", "tags") if name not in told]
        self.send(request, 400 if errors else 200, {"errors": errors, "warnings": []})

    def resolve(self, request: BaseHTTPRequestHandler, found: "re.Match[str]", body: bytes) -> None:
        sha = self.revision(request, found, body)
        if sha is None:
            return
        data = self.repos[found["repo"]].commits[sha].get(found["path"])
        if data is None:
            code = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found", "X-Repo-Commit": sha}
            return self.send(request, 404, {"error": "Entry not found"}, code)
        large = is_large(found["path"])
        etag = hashlib.sha256(data).hexdigest() if large else blob_id(data)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range") or "")
        if asked is None:
            return self.send(request, 200, data, headers)
        first, last = int(asked[1]), int(asked[2] or len(data) - 1)
        self.ranges.append(asked[0])
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return self.send(request, 206, data[first : last + 1], headers)


def blob_id(data: bytes) -> str:
    """Git's name of a file."""
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


REPO = r"(?P<repo>[^/]+/[^/]+)"
ROUTES: list[tuple[str, str, Any]] = [
    ("POST", "/api/repos/create", Hub.create),
    ("POST", "/api/validate-yaml", Hub.check_yaml),
    ("POST", rf"/api/models/{REPO}/branch/(?P<branch>.+)", Hub.branch),
    ("GET", rf"/api/models/{REPO}", Hub.info),
    ("GET", rf"/api/models/{REPO}/revision/(?P<revision>.+)", Hub.info),
    ("GET", rf"/api/models/{REPO}/tree/(?P<revision>.+)", Hub.tree),
    ("POST", rf"/api/models/{REPO}/preupload/(?P<revision>.+)", Hub.preupload),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", Hub.batch),
    ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})", Hub.put),
    ("POST", rf"/api/models/{REPO}/commit/(?P<revision>.+)", Hub.commit),
    ("HEAD", rf"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", Hub.resolve),
    ("GET", rf"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", Hub.resolve),
]
