"""The processes of a chaos run: started as on several machines, started again whenever they end, broken on purpose.

One thread; `look` is called some fifty times a second. Whatever ends is started again, as a supervisor would.
"""

import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time

import network

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
import harness  # noqa: E402

CLIENT = harness.BIN / "sheaf-chaos-client"
PROGRAMS = {"scheduler": "sheaf-scheduler", "server": "sheaf-server", "worker": "sheaf-worker"}
RESTART_AFTER = 0.2
SNAPSHOT_AFTER_MB = 4      # so that a server that starts again has both, snapshots and log
TMPFS_MB = 512


def now():
    """The clock of the clients' files, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Node:
    def __init__(self, name):
        self.name = name
        self.role = name.partition("-")[0]
        self.process = None
        self.start_at = 0.0
        self.expected_end = False      # it was killed by us
        self.paused = False

    @property
    def up(self):
        return self.process is not None


class Cluster:
    """Scheduler, servers and workers; a proxy before each that listens; a folder for stores and logs."""

    def __init__(self, folder, servers, workers, data):
        self.folder = folder
        self.data = data
        self.nodes = {name: Node(name) for name in
                      ["scheduler", *(f"server-{i}" for i in range(servers)), *(f"worker-{i}" for i in range(workers))]}
        self.network = network.make([*self.nodes, "client"])
        self.proxy = None
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.tmpfs = None
        self.restarts = 0
        self.crashes = []              # ends that nobody ordered and that are no orderly giving up
        self.gave_up = []              # ends with a reason of their own
        self.log_files = []

    # ---- life ----

    def start(self):
        """One server after the other, so that the scheduler gives them the names that we do."""
        self._start_proxy()
        for node in self.nodes.values():
            self._start(node)
            if node.role == "server":
                harness.wait_until(lambda: "registered with" in (self.logs / f"{node.name}.log").read_text(), 20,
                                   f"{node.name} registers: {self.last_line(node.name)}")

    def _start_proxy(self):
        targets = [name for name, node in self.nodes.items() if node.role != "worker"]
        words = [f"{name}={self.network.proxied(name)}:{network.PORT},{self.network.own(name)}:{network.PORT}"
                 for name in targets]
        self.proxy = subprocess.Popen(
            [*self.network.inside("hub"), sys.executable, "-B", str(pathlib.Path(__file__).with_name("proxy.py")),
             *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            stderr=self._log("proxy"), preexec_fn=network.dies_with_parent)
        if self.proxy.stdout.readline() != "ready\n":
            raise RuntimeError(f"the proxy did not start: {(self.logs / 'proxy.log').read_text()}")

    def _log(self, name):
        log = open(self.logs / f"{name}.log", "ab")
        self.log_files.append(log)
        return log

    @property
    def scheduler_address(self):
        return f"tcp://{self.network.proxied('scheduler')}:{network.PORT}"

    def _arguments(self, node):
        own, proxied = self.network.own(node.name), self.network.proxied(node.name)
        if node.role == "scheduler":
            return [f"--listen={own}", f"--port={network.PORT}", f"--data_dir={self.store(node.name)}",
                    "--min_servers=" + str(sum(other.role == "server" for other in self.nodes.values()))]
        common = [f"--scheduler={self.scheduler_address}"]
        if node.role == "worker":
            return [*common, f"--data={self.data}"]
        return [*common, f"--listen={own}", f"--port={network.PORT}", f"--advertise={proxied}",
                "--local_sockets=false", f"--data_dir={self.store(node.name)}",
                f"--snapshot_after_mb={SNAPSHOT_AFTER_MB}"]

    def store(self, name):
        return self.folder / "store" / name

    def command(self, name, program, *arguments):
        return [*self.network.inside(name), str(program), *map(str, arguments)]

    def spawn(self, name, log, program, *arguments, **options):
        """A process in the namespace of `name`."""
        return subprocess.Popen(self.command(name, program, *arguments), stdin=subprocess.DEVNULL,
                                stderr=self._log(log), env=harness.clean_environment(),
                                preexec_fn=network.dies_with_parent, **options)

    def _start(self, node):
        log = self._log(node.name)
        node.process = self.spawn(node.name, node.name, harness.BIN / PROGRAMS[node.role], *self._arguments(node),
                                  stdout=log)
        node.expected_end = node.paused = False

    def look(self):
        """Notes who has ended, and starts again whose time has come."""
        for node in self.nodes.values():
            if node.process is None:
                if now() >= node.start_at:
                    self.restarts += 1
                    self._start(node)
                continue
            code = node.process.poll()
            if code is None:
                continue
            if not node.expected_end:
                line = f"{node.name} ended by itself, status {code}: {self.last_line(node.name)}"
                # 70: a bug of ours; below 0: a signal that nobody sent.
                (self.crashes if code < 0 or code in (0, 70) else self.gave_up).append(line)
            node.process = None
            node.start_at = max(node.start_at, now() + RESTART_AFTER)

    def last_line(self, name):
        lines = (self.logs / f"{name}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "(nothing in its log)"

    # ---- what is done to it ----

    def kill(self, name, start_again_after):
        node = self.nodes[name]
        node.start_at = now() + start_again_after
        if node.up:
            node.expected_end = True
            node.process.kill()
            node.process.wait()
            self.look()
            node.start_at = now() + start_again_after

    def stop(self, name):
        """SIGTERM: it leaves by itself, and is not started again for now."""
        node = self.nodes[name]
        node.expected_end = True
        node.process.terminate()

    def pause(self, name):
        node = self.nodes[name]
        if node.up:
            node.process.send_signal(signal.SIGSTOP)
            node.paused = True

    def resume(self, name):
        node = self.nodes[name]
        if node.up and node.paused:
            node.process.send_signal(signal.SIGCONT)
        node.paused = False

    def spoil(self, *order):
        self.proxy.stdin.write(" ".join(map(str, order)) + "\n")
        self.proxy.stdout.readline()       # it is obeyed

    # ---- a disk that is full ----

    def mount_small_disk(self, name):
        """The store of `name` on a disk of its own, or why that cannot be."""
        folder = self.store(name)
        folder.mkdir(parents=True)
        if os.geteuid() != 0 or not shutil.which("mount"):
            return "not root: a limit on the size of files stands in for a full disk"
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={TMPFS_MB}m", "sheaf-chaos", str(folder)],
                                 capture_output=True, text=True)
        if mounted.returncode != 0:
            return f"{mounted.stderr.strip()}: a limit on the size of files stands in for a full disk"
        self.tmpfs = folder
        return None

    def fill_disk(self, name):
        if self.tmpfs is None:
            node = self.nodes[name]
            log = self.store(name) / "shard-0" / "log"
            largest = max((file.stat().st_size for file in log.glob("*.redo")), default=0)
            if node.up:
                hard = resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE)[1]
                resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (max(largest, 1 << 20), hard))
            return
        with open(self.tmpfs / "ballast", "wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(1 << 20))
            except OSError:
                pass               # it is full

    def empty_disk(self, name):
        if self.tmpfs is None:
            node = self.nodes[name]
            if node.up:
                hard = resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE)[1]
                resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
            return
        (self.tmpfs / "ballast").unlink(missing_ok=True)

    # ---- the end ----

    def close(self):
        for node in self.nodes.values():
            if node.up:
                node.process.kill()
                node.process.wait()
        if self.proxy:
            self.proxy.kill()
            self.proxy.wait()
            self.proxy.stdin.close()
            self.proxy.stdout.close()
        if self.tmpfs:
            subprocess.run(["umount", "--lazy", str(self.tmpfs)], check=False)
        for log in self.log_files:
            log.close()
        self.network.close()
