"""A server process under measurement: its start, its answers, the kernel's accounts of it, and its end."""

import http.client
import os
import pathlib
import signal
import socket
import subprocess
import time

PATIENCE = 60
TICK = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def stat(pid):
    """Returns the fields of /proc/PID/stat from the state on, or None for a process that is gone."""
    try:
        # The name before them is in parentheses and may hold any character.
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def tree(root):
    """Returns the process and its descendants."""
    parents = {int(name): fields[1] for name in os.listdir("/proc") if name.isdigit() and (fields := stat(name))}
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if int(parent) == pid]
    return found


def cpu_seconds(root):
    """Returns user and system seconds of a process and its descendants, ended ones that were waited for included."""
    user = system = 0
    for pid in tree(root):
        if fields := stat(pid):
            user += int(fields[11]) + int(fields[13])
            system += int(fields[12]) + int(fields[14])
    return user / TICK, system / TICK


def busy_seconds():
    """Returns the CPU seconds that all of the machine has spent on anything since it started, steal included."""
    fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICK


class Server:
    """A server that listens at a free port of this machine and writes its output to the file `log` of its folder."""

    def __init__(self, command, folder, path):
        """Starts it; `command` makes the arguments for a port, and `path` answers as soon as it serves."""
        self.folder, self.port = folder, free_port()
        self.log = folder / "log"
        settings = {name: value for name, value in os.environ.items() if not name.startswith("STOCKROOM_")}
        begin = time.perf_counter()
        # A session of its own: Ctrl-C reaches the script alone, which then ends the servers in order.
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command(self.port),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=settings,
            )
        try:
            while (status := self.status(path)) is None:
                if self.process.poll() is not None or time.perf_counter() > begin + PATIENCE:
                    raise SystemExit(f"cannot start {self.process.args[0]}: {self.log.read_text()[-2000:]}")
                time.sleep(0.0005)
        except BaseException:
            self.stop()
            raise
        self.start_seconds, self.first_status = time.perf_counter() - begin, status

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=3600)

    def status(self, path):
        """Returns the status of a GET, or None where nothing listens, or a server that is still starting (503)."""
        connection = self.connect()
        try:
            connection.request("GET", path)
            status = connection.getresponse().status
            return None if status == 503 else status
        except (ConnectionError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def send(self, method, path, body=None, headers=None, connection=None):
        """Returns the status, the headers and the body of an answer."""
        connection = connection or self.connect()
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def cpu_seconds(self):
        return cpu_seconds(self.process.pid)

    def memory(self):
        """Returns resident bytes, and those with shared pages divided among the processes that share them."""
        resident = proportional = 0
        for pid in tree(self.process.pid):
            for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name, _, value = line.partition(":")
                if name == "Rss":
                    resident += int(value.split()[0]) * 1024
                elif name == "Pss":
                    proportional += int(value.split()[0]) * 1024
        return resident, proportional

    def stop(self):
        """Ends it, by force if it does not end by itself, and whatever it left running in its session."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
