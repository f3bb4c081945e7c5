"""Compares Stockroom with other servers under the same load, and writes docs/performance.md and its plots.

    python3 benches/compare [--loads get,movement] [--peers stockroom,hello] [--connections 64] [--rounds 3]

Needs Rust, Python 3 with venv, and wrk (Debian: python3-venv, wrk). It builds Stockroom as it ships and bare poem, and
installs the other peers from PyPI into a virtual environment under target/compare. The servers run side by side on
loopback, each with a fresh inventory of a thousand items on the same disk. In each round every server has its turn
under the load, each time another one first. It ends with an error if any answer has another status than the expected
one, or if a connection broke.

With any option that makes it a part of the whole, such as --loads or --rounds, it prints the tables and writes no
document unless --document says where to.
"""

import argparse
import collections
import datetime
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import peers as kinds
import report
import server as servers

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def names(known):
    def parse(text):
        chosen = text.split(",")
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"cannot find {name!r}; choose from {', '.join(known)}")
        return chosen

    return parse


def parse_options():
    parser = argparse.ArgumentParser(
        prog="benches/compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--loads", type=names(kinds.LOADS), default=list(kinds.LOADS), help="some of: " + ", ".join(kinds.LOADS)
    )
    parser.add_argument(
        "--peers", type=names(kinds.PEERS), default=list(kinds.PEERS), help="some of: " + ", ".join(kinds.PEERS)
    )
    parser.add_argument(
        "--connections", type=lambda text: [int(part) for part in text.split(",")], default=[1, 64, 256]
    )
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each case (default 3)")
    parser.add_argument("--seconds", type=int, default=4, help="length of each measurement (default 4)")
    parser.add_argument("--starts", type=int, default=5, help="measured starts of each server (default 5)")
    parser.add_argument("--imports", type=int, default=3, help="measured imports of a million items (default 3)")
    parser.add_argument(
        "--threads", type=int, default=max(1, os.cpu_count() // 4), help="threads of the load generator"
    )
    parser.add_argument(
        "--program", type=lambda text: pathlib.Path(text).resolve(), help="a Stockroom to measure in place of a build"
    )
    parser.add_argument(
        "--work", type=pathlib.Path, default=ROOT / "target/compare", help="folder for peers and inventories"
    )
    parser.add_argument("--json", type=pathlib.Path, help="file for every measurement")
    parser.add_argument(
        "--document", type=pathlib.Path, help="where to write the document (default: docs/performance.md)"
    )
    options = parser.parse_args()
    whole = {
        name: parser.get_default(name)
        for name in ("loads", "peers", "connections", "rounds", "seconds", "starts", "imports", "program")
    }
    if options.document is None and all(getattr(options, name) == value for name, value in whole.items()):
        options.document = ROOT / "docs/performance.md"
    options.work = options.work.resolve()
    return options


def wrk(options, server, load, connections, seconds, requests, run):
    """Puts a load on a server for some seconds; returns what the load generator counted, and its own CPU seconds."""
    command = [
        "wrk",
        "--threads",
        str(min(options.threads, connections)),
        "--connections",
        str(connections),
        "--duration",
        f"{seconds}s",
        "--timeout",
        "30s",
        "--script",
        HERE / "load.lua",
        f"http://127.0.0.1:{server.port}",
        "--",
        requests,
        ",".join(map(str, load.statuses)),
        str(run),
    ]
    before = os.times()
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    after = os.times()
    result = json.loads(output.splitlines()[-1])
    result["generator_cpu"] = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return result


class Comparison:
    def __init__(self, options):
        self.options, self.folder = options, options.folder
        self.peers = [kinds.PEERS[name](options) for name in options.peers]
        self.runs = 0
        self.measurements, self.failures, self.imports = [], [], []
        self.starts = collections.defaultdict(list)
        self.memory = {}

    def stop(self):
        for peer in self.peers:
            if peer.server:
                peer.server.stop()

    def start(self):
        """Starts each server with its inventory, measures that, and leaves all of them running."""
        for peer in self.peers:
            say(f"{peer.name}: prepare")
            peer.install()
            if isinstance(peer, kinds.StockroomOfMillion):
                self.measure_imports(peer)
            elif peer.keeps:
                peer.start(self.folder / peer.name)
                peer.seed()
                peer.server.stop()
        for number in range(self.options.starts):
            for peer in rotated(self.peers, number):
                if peer.server:
                    peer.server.stop()
                self.starts[peer.name].append(peer.start(self.folder / peer.name).start_seconds)
        for peer in self.peers:
            if not peer.keeps:
                peer.seed()
        # Background work of a start or an import ends within this time.
        time.sleep(2)
        for peer in self.peers:
            resident, proportional = peer.server.memory()
            self.memory[peer.name] = {
                "idle": resident,
                "idle_proportional": proportional,
                "loaded": 0,
                "loaded_proportional": 0,
            }

    def measure_imports(self, peer):
        for number in range(self.options.imports):
            server = peer.start(self.folder / f"{peer.name}-import")
            path = peer.write_items()
            begin, cpu = time.perf_counter(), sum(server.cpu_seconds())
            peer.import_file(path)
            seconds = time.perf_counter() - begin
            self.imports.append(
                {"items": peer.items, "seconds": seconds, "cpu_seconds": sum(server.cpu_seconds()) - cpu}
            )
            say(f"{peer.name}: import {number + 1}: {peer.items / seconds:,.0f} items/s")
            server.stop()
            if number + 1 < self.options.imports:
                shutil.rmtree(peer.folder)
        peer.folder.rename(self.folder / peer.name)

    def measure(self):
        for name in self.options.loads:
            load = kinds.LOADS[name]
            able = []
            for peer in self.peers:
                if requests := peer.requests(name):
                    file = peer.folder / f"{name}.lua"
                    kinds.write_requests(file, requests)
                    able.append((peer, file))
            for connections in load.connections or self.options.connections:
                for peer, file in able:
                    # The warm-up; a second may be too short for an answer.
                    self.run(peer, load, connections, 1, file)
                for number in range(self.options.rounds):
                    for peer, file in rotated(able, number):
                        measured = self.run(peer, load, connections, self.options.seconds, file)
                        if not measured["requests"]:
                            self.failures.append(
                                f"{peer.name}, {name}, {connections} connections: nothing was answered"
                            )
                        self.measurements.append({"round": number, **measured})

    def run(self, peer, load, connections, seconds, file):
        self.runs += 1
        server = peer.server
        # Each run logs into an empty file, so that no disk fills up.
        os.truncate(server.log, 0)
        busy, (user, system) = servers.busy_seconds(), server.cpu_seconds()
        result = wrk(self.options, server, load, connections, seconds, file, self.runs)
        after_user, after_system = server.cpu_seconds()
        busy = servers.busy_seconds() - busy
        result.update(
            peer=peer.name,
            load=load.name,
            connections=connections,
            user=after_user - user,
            system=after_system - system,
        )
        others = busy - result["user"] - result["system"] - result["generator_cpu"]
        result["others"] = max(0.0, others) / (result["seconds"] * os.cpu_count())
        resident, proportional = server.memory()
        memory = self.memory[peer.name]
        memory["loaded"] = max(memory["loaded"], resident)
        memory["loaded_proportional"] = max(memory["loaded_proportional"], proportional)
        say(
            f"{load.name} {connections:3} {peer.name:18} {result['requests'] / result['seconds']:9,.0f}/s "
            f"{report.cpu_us(result):7.1f} us CPU  p99 {result['p99_us'] / 1000:8.2f} ms  others {result['others']:.0%}"
        )
        self.check(peer, load, connections, result)
        return result

    def check(self, peer, load, connections, result):
        case = f"{peer.name}, {load.name}, {connections} connections"
        if result["wrong"]:
            self.failures.append(
                f"{case}: {result['wrong']} answers had another status, such as {result['wrong_status']}"
            )
        if result["broken"] or result["timeouts"]:
            self.failures.append(
                f"{case}: {result['broken']} connections broke, {result['timeouts']} requests timed out"
            )

    def raw(self):
        return {
            "machine": machine(self.folder),
            "commit": self.options.commit,
            "options": {name: str(value) for name, value in vars(self.options).items()},
            "peers": {
                peer.name: {
                    "title": peer.title,
                    "version": peer.version,
                    "durability": peer.durability,
                    "starts": self.starts[peer.name],
                    "memory": self.memory[peer.name],
                }
                for peer in self.peers
            },
            "loads": {name: kinds.LOADS[name].title for name in self.options.loads},
            "imports": self.imports,
            "rounds": self.options.rounds,
            "seconds": self.options.seconds,
            "measurements": self.measurements,
        }


def rotated(sequence, number):
    number %= len(sequence) or 1
    return sequence[number:] + sequence[:number]


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True).stdout.strip()


def machine(folder):
    model = next(
        (line.partition(":")[2].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    disk = subprocess.run(["df", "--output=fstype", folder], check=True, capture_output=True, text=True).stdout.split()[
        -1
    ]
    return {
        "date": datetime.date.today().isoformat(),
        "processor": model,
        "processors": os.cpu_count(),
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "kernel": platform.release(),
        "file_system": disk,
    }


def say(text):
    print(text, file=sys.stderr, flush=True)


def end(number, _frame):
    raise SystemExit(128 + number)


def main():
    options = parse_options()
    # A shell starts what is to run beside it with Ctrl-C ignored.
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    if not shutil.which("wrk"):
        raise SystemExit("cannot find wrk; install it (Debian: apt-get install wrk)")
    options.work.mkdir(parents=True, exist_ok=True)
    # Before the build: the sources may change during the run.
    options.commit = git("describe", "--always", "--dirty")
    if options.program is None:
        kinds.cargo("build", "--release", "--locked")
        options.program = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/stockroom"
    with tempfile.TemporaryDirectory(dir=options.work, prefix="run-") as folder:
        options.folder = pathlib.Path(folder)
        comparison = Comparison(options)
        try:
            comparison.start()
            comparison.measure()
            raw = comparison.raw()
        finally:
            comparison.stop()
    if options.json:
        options.json.write_text(json.dumps(raw, indent=1) + "\n")
    print(report.tables(raw))
    if comparison.failures:
        raise SystemExit("\n".join(["failed; no document is written:", *comparison.failures]))
    if options.document:
        report.write(options.document, raw)


if __name__ == "__main__":
    main()
