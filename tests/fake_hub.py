"""A Hugging Face Hub on 127.0.0.1, as much of it as huggingface_hub and diffusers ask for: repositories with revisions,
commits of regular and LFS files, private repositories, tokens; data sets to read. One user, `user`, with the token
`TOKEN`."""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

TOKEN = "hf_good"
REPO = r"(?P<repo>[^/]+/[^/]+)"
# The names that data sets and Spaces have in `repos`.
DATASET, SPACE = (rf"(?P<repo>{kind}/[^/]+/[^/]+)" for kind in ("datasets", "spaces"))


@dataclass
class Repo:
    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # files by path, by commit, oldest first
    tags: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)  # of a Space
    hardware: str | None = None

    @property
    def head(self) -> str:
        return list(self.commits)[-1]

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[self.head]


class FakeHub(ThreadingHTTPServer):
    """Listens from the start, until `close`. `broken_commits` = how many coming commits are cut off, unanswered."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repos: dict[str, Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.sent: list[str] = []  # the files that were downloaded, USER/NAME/path
        self.broken_commits = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def add_dataset(self, name: str, files: dict[str, bytes], tag: str | None = None) -> None:
        """A commit that leaves these files alone, by path."""
        repo = self.repos.setdefault(f"datasets/{name}", Repo(False))
        commit = sha1(repr(sorted(files)).encode())
        repo.commits[commit] = files
        if tag:
            repo.tags[tag] = commit

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def handle_request(self) -> None:
        for method, pattern, action in ROUTES:
            match = re.fullmatch(pattern, unquote(urlsplit(self.path).path))
            if match and self.command in method:
                return self.act(action, **{k: v for k, v in match.groupdict().items() if v})
        self.answer(404, {})

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def act(self, action, repo: str = "", rev: str = "main", **names: str) -> None:
        """Check what the request may see, then run the action with the repository, the commit and the other names."""
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        found = self.server.repos.get(repo)
        if repo and (found is None or (found.private and not known)):
            return self.answer(404 if known else 401, {}, {"X-Error-Code": "RepoNotFound"} if known else {})
        if self.command == "POST" and not known:  # LFS files are PUT without a token
            return self.answer(401, {}, {"X-Error-Message": "Invalid credentials in Authorization header"})
        if repo:
            commit = {"main": found.head, **found.tags}.get(rev, rev)
            if commit not in found.commits:
                return self.answer(404, {}, {"X-Error-Code": "RevisionNotFound"})
            names |= {"repo": repo, "commit": commit}
        action(self, **names)

    def answer(self, status: int, content: dict | list | bytes, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_) -> None:
        pass

    # ------------------------------------------------------------------------------------------ actions

    def whoami(self) -> None:
        self.answer(200, {"type": "user", "name": "user", "orgs": []})

    def create(self) -> None:
        asked = json.loads(self.body)
        kind = "spaces/" if asked.get("type") == "space" else ""
        name = f"{kind}{asked.get('organization') or 'user'}/{asked['name']}"
        status = 409 if name in self.server.repos else 200
        private = asked.get("visibility") == "private" or asked.get("private", False)
        created = Repo(private, {"0" * 40: {".gitattributes": b""}}, hardware=asked.get("hardware"))
        self.server.repos.setdefault(name, created)
        self.answer(status, {"url": f"{self.server.url}/{name}"})

    def info(self, repo: str, commit: str) -> None:
        found = self.server.repos[repo]
        siblings = [{"rfilename": path} for path in found.commits[commit]]
        self.answer(200, {"id": repo, "sha": commit, "private": found.private, "siblings": siblings})

    def tree(self, repo: str, commit: str) -> None:
        files = self.server.repos[repo].commits[commit].items()
        folders = {str(folder) for path, _ in files for folder in PurePosixPath(path).parents} - {"."}
        entries = [{"type": "directory", "path": p, "oid": sha1(p.encode())} for p in sorted(folders)]
        self.answer(200, entries + [{"type": "file", "path": p, "size": len(d), "oid": sha1(d)} for p, d in files])

    def paths_info(self, repo: str, commit: str) -> None:
        files = self.server.repos[repo].commits[commit]
        asked = [path for path in json.loads(self.body)["paths"] if path in files]
        self.answer(200, [{"type": "file", "path": p, "size": len(files[p]), "oid": sha1(files[p])} for p in asked])

    def resolve(self, repo: str, commit: str, path: str) -> None:
        data = self.server.repos[repo].commits[commit].get(path)
        if data is None:
            return self.answer(404, {}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        if self.command == "GET":
            self.server.sent.append(f"{repo}/{path}")
        self.answer(200, data, {"ETag": f'"{sha1(data)}"', "X-Repo-Commit": commit})

    def variables(self, repo: str, commit: str) -> None:
        asked, known = json.loads(self.body), self.server.repos[repo].variables
        known[asked["key"]] = asked["value"]
        self.answer(200, {key: {"value": value, "updatedAt": None} for key, value in known.items()})

    def hardware(self, repo: str, commit: str) -> None:
        found = self.server.repos[repo]
        found.hardware = json.loads(self.body)["flavor"]
        self.answer(200, {"stage": "BUILDING", "hardware": {"requested": found.hardware}, "gcTimeout": None})

    def preupload(self, **_: str) -> None:
        paths = [file["path"] for file in json.loads(self.body)["files"]]
        modes = [(path, "lfs" if path.endswith(".safetensors") else "regular") for path in paths]
        self.answer(200, {"files": [{"path": p, "uploadMode": mode, "shouldIgnore": False} for p, mode in modes]})

    def lfs_batch(self, **_: str) -> None:
        objects = json.loads(self.body)["objects"]
        upload = [{**o, "actions": {"upload": {"href": f"{self.server.url}/lfs/{o['oid']}"}}} for o in objects]
        self.answer(200, {"objects": upload})

    def lfs_put(self, oid: str) -> None:
        self.server.lfs[oid] = self.body
        self.answer(200, {})

    def commit(self, repo: str, commit: str) -> None:
        if self.server.broken_commits:
            self.server.broken_commits -= 1
            return self.connection.close()
        files = dict(self.server.repos[repo].commits[commit])
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.lfs[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        new = sha1(commit.encode() + self.body)
        self.server.repos[repo].commits[new] = files
        self.answer(200, {"commitUrl": f"{self.server.url}/{repo}/commit/{new}", "commitOid": new, "success": True})


def sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


ROUTES = [
    (("GET",), "/api/whoami-v2", Handler.whoami),
    (("POST",), "/api/repos/create", Handler.create),
    (("POST",), "/api/validate-yaml", lambda self: self.answer(200, {"errors": [], "warnings": []})),
    (("GET",), f"/api/models/{REPO}(/revision/(?P<rev>.+))?", Handler.info),
    (("GET",), f"/api/models/{REPO}/tree/(?P<rev>[^/]+)", Handler.tree),
    (("GET",), f"/api/{DATASET}(/revision/(?P<rev>.+))?", Handler.info),
    (("GET",), f"/api/{DATASET}/tree/(?P<rev>[^/]+)(/.*)?", Handler.tree),
    (("POST",), f"/api/{DATASET}/paths-info/(?P<rev>[^/]+)", Handler.paths_info),
    (("GET", "HEAD"), f"/{DATASET}/resolve/(?P<rev>[^/]+)/(?P<path>.+)", Handler.resolve),
    (("GET",), f"/api/{SPACE}(/revision/(?P<rev>.+))?", Handler.info),
    (("POST",), f"/api/{SPACE}/variables", Handler.variables),
    (("POST",), f"/api/{SPACE}/hardware", Handler.hardware),
    (("POST",), f"/api/{SPACE}/preupload/(?P<rev>[^/]+)", Handler.preupload),
    (("POST",), f"/api/{SPACE}/commit/(?P<rev>[^/]+)", Handler.commit),
    (("POST",), f"/api/models/{REPO}/preupload/(?P<rev>[^/]+)", Handler.preupload),
    (("POST",), f"/api/models/{REPO}/commit/(?P<rev>[^/]+)", Handler.commit),
    (("GET", "HEAD"), f"/{REPO}/resolve/(?P<rev>[^/]+)/(?P<path>.+)", Handler.resolve),
    (("POST",), r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", Handler.lfs_batch),
    (("PUT",), "/lfs/(?P<oid>.+)", Handler.lfs_put),
]
