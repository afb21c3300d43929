"""Several schedulers that keep what they know in etcd: one leads, and the loss of any one is survived."""

import base64
import json
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import time
import unittest
import urllib.error
import urllib.request

import harness
from harness import ADULT, BIN, ROOT, wait_until

ETCD = "/usr/bin/etcd"
ROWS = 32561
LEASE_S = 2


def free_ports(count):
    """All different: they are held until all are known."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@unittest.skipUnless(os.access(ETCD, os.X_OK), f"there is no {ETCD} (package etcd-server): run scripts/setup.sh")
class SeveralSchedulers(harness.SheafTest):
    def setUp(self):
        super().setUp()
        self.logs = {}
        self.schedulers = {}  # port: process

    # ---- processes, each with a log that can be read while it runs

    def launch(self, name, *command):
        log = self.folder / f"{name}.log"
        with open(log, "ab") as out:
            process = subprocess.Popen(
                [str(word) for word in command], stdout=out, stderr=out, cwd=self.folder,
                env=harness.clean_environment() | {"SHEAF_E2E": str(self.folder), "TMPDIR": str(self.folder)})
        self.started.append(process)
        self.logs[name] = log
        return process

    def said(self, name):
        return self.logs[name].read_text(errors="replace")

    def start_etcd(self, members=1):
        ports = free_ports(2 * members)
        self.etcd_ports, peers = ports[:members], ports[members:]
        cluster = ",".join(f"e{i}=http://127.0.0.1:{port}" for i, port in enumerate(peers))
        self.etcd_commands = [
            (f"etcd-{i}", ETCD, f"--name=e{i}", f"--data-dir={self.folder}/etcd-{i}",
             f"--listen-client-urls=http://127.0.0.1:{self.etcd_ports[i]}",
             f"--advertise-client-urls=http://127.0.0.1:{self.etcd_ports[i]}",
             f"--listen-peer-urls=http://127.0.0.1:{peers[i]}",
             f"--initial-advertise-peer-urls=http://127.0.0.1:{peers[i]}", f"--initial-cluster={cluster}",
             "--heartbeat-interval=50", "--election-timeout=500") for i in range(members)]
        self.etcds = [self.launch(*command) for command in self.etcd_commands]
        wait_until(lambda: all(self.ask_etcd("nothing", port) is not None for port in self.etcd_ports), 60,
                   "etcd answers")
        self.meta = "etcd://" + ",".join(f"127.0.0.1:{port}" for port in self.etcd_ports) + "/e2e"

    def ask_etcd(self, key, port=None):
        """The entries of a key, or None if etcd does not answer."""
        body = json.dumps({"key": base64.b64encode(f"e2e/{key}".encode()).decode()}).encode()
        url = f"http://127.0.0.1:{port or self.etcd_ports[-1]}/v3/kv/range"
        try:
            with urllib.request.urlopen(url, body, timeout=2) as answer:
                return json.load(answer).get("kvs", [])
        except (OSError, ValueError):
            return None

    def leader(self):
        """The port of the scheduler that holds the key, or None."""
        found = self.ask_etcd("leader")
        return int(base64.b64decode(found[0]["value"]).decode().rsplit(":", 1)[1]) if found else None

    def epochs(self):
        """Of all terms that schedulers have begun, in the order of their logs."""
        return {name: [int(epoch) for epoch in re.findall(r"leads with epoch=(\d+)", self.said(name))]
                for name in self.logs if name.startswith("scheduler")}

    def last_epoch(self):
        return max([0] + [epoch for each in self.epochs().values() for epoch in each])

    def start_scheduler(self, port):
        self.schedulers[port] = self.launch(
            f"scheduler-{port}", BIN / "sheaf-scheduler", f"--meta={self.meta}", f"--port={port}", "--min_servers=2",
            f"--leader_lease_s={LEASE_S}", "--worker_dead_after_ms=6000")

    def start_cluster(self, etcd_members=1):
        self.start_etcd(etcd_members)
        for port in free_ports(3):
            self.start_scheduler(port)
        self.addresses = ",".join(f"tcp://127.0.0.1:{port}" for port in self.schedulers)
        for name in ("server-a", "server-b"):
            self.launch(name, BIN / "sheaf-server", f"--scheduler={self.addresses}")
        for name in ("worker-a", "worker-b"):
            self.launch(name, BIN / "sheaf-worker", f"--scheduler={self.addresses}", f"--data={ROOT}/examples/data")
        self.wait_for_leader(after=0)

    def wait_for_leader(self, after):
        """Until a scheduler leads with a later epoch than `after`; its port."""
        wait_until(lambda: self.last_epoch() > after, 60, f"a scheduler leads with an epoch after {after}")
        return wait_until(self.leader, 30, "the key of the leader is there")

    def submit(self, *settings):
        report = self.folder / "report.json"
        options = [word for setting in settings for word in ("--set", setting)]
        process = self.start("submit", ADULT, "--scheduler", self.addresses, "--timeout", 120, "--report", report,
                             *options)
        wait_until(lambda: self.examples() > 0 or process.poll() is not None, 60, "the job trains")
        return process, report

    def examples(self):
        outcome = self.sheaf("status", "--scheduler", self.addresses, "--output", "json")
        jobs = json.loads(outcome.out)["jobs"] if outcome.code == 0 else []
        return jobs[0]["examples_total"] if jobs else 0

    def check_job(self, process, report, epochs):
        outcome = self.finish(process, timeout=240)
        self.assertEqual(outcome.code, 0, f"{outcome}\n{self.all_logs()}")
        result = json.loads(report.read_text())
        self.assertEqual(result["examples_total"], ROWS * epochs)
        return result

    def check_epochs(self):
        """No two terms had the same, whoever led; and the store counts them."""
        of_each = self.epochs()
        for name, each in of_each.items():
            self.assertEqual(each, sorted(set(each)), f"{name} has led with an epoch twice, or with an earlier one")
        used = sorted(epoch for each in of_each.values() for epoch in each)
        self.assertEqual(used, sorted(set(used)), "two schedulers have led with the same epoch")
        entry = wait_until(lambda: self.ask_etcd("k/epoch"), 30, "etcd answers")[0]
        self.assertEqual(base64.b64decode(entry["value"]).decode(), "=" + entry["version"],
                         "it was raised by one each time it was written")
        self.assertEqual(used[-1], int(entry["version"]))
        return used

    def workers_cpu_seconds(self):
        """What workers have computed, by the system's clock ticks."""
        workers = [process for process in self.started if "sheaf-worker" in str(process.args)]
        stats = [pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1] for process in workers]
        return sum(int(stat.split()[11]) for stat in stats)

    def all_logs(self):
        return "\n".join(f"---- {name}\n{self.said(name)[-4000:]}" for name in self.logs if "etcd" not in name)

    # ---- tests

    def test_kills_of_the_leader_lose_no_example_and_use_no_epoch_twice(self):
        epochs = harness.shorter(120, 40)
        settings = ["consistency.mode=BSP", f"train.epochs={epochs}", "train.batch_size=64", "train.workers=2"]
        self.start_cluster()
        process, report = self.submit(*settings)
        kills, times = harness.shorter(20, 5), []
        for kill in range(kills):
            epoch, before = self.last_epoch(), self.examples()
            leader = self.leader()
            self.assertIsNone(process.poll(), f"the job was over after {kill} kills: make it longer")
            began = time.monotonic()
            self.schedulers[leader].kill()
            self.schedulers[leader].wait()
            self.start_scheduler(leader)  # as a supervisor does
            self.wait_for_leader(after=epoch)
            times.append(time.monotonic() - began)
            # It leads, and training goes on under it.
            wait_until(lambda: self.examples() > before or process.poll() is not None, 60, "training goes on")
        result = self.check_job(process, report, epochs)
        self.assertEqual(result["workers_lost"], 0)
        used = self.check_epochs()
        self.assertGreaterEqual(len(used), kills + 1)
        print(f"\n{kills} kills: from a leader's end to the next one's begin p50 {statistics.median(times):.2f} s, "
              f"max {max(times):.2f} s with a lease of {LEASE_S} s; {len(used)} epochs", flush=True)
        killed_model, quiet_model = self.folder / "killed.model", self.folder / "quiet.model"
        self.run_ok("export", "1", killed_model, "--scheduler", self.addresses)
        self.run_job(ADULT, "--servers", 2, "--workers", 2, "--model", quiet_model, settings=settings[:3])
        self.assertEqual(killed_model.read_bytes(), quiet_model.read_bytes())

    def test_a_leader_that_was_stopped_for_longer_than_its_lease_does_not_lead_any_more(self):
        epochs = harness.shorter(60, 30)
        self.start_cluster()
        process, report = self.submit(f"train.epochs={epochs}", "train.batch_size=32")
        first, epoch = self.leader(), self.last_epoch()
        self.schedulers[first].send_signal(signal.SIGSTOP)
        self.addCleanup(self.schedulers[first].send_signal, signal.SIGCONT)
        second = self.wait_for_leader(after=epoch)
        self.assertNotEqual(first, second)
        examples = self.examples()
        self.schedulers[first].send_signal(signal.SIGCONT)
        wait_until(lambda: "leads no more" in self.said(f"scheduler-{first}"), 30, "it notices")
        # It stands by: who asks it is sent on, and it may lead again, later, with another epoch.
        outcome = self.run_ok("status", "--scheduler", f"tcp://127.0.0.1:{first}", "--output", "json")
        self.assertGreater(json.loads(outcome.out)["scheduler_epoch"], epoch)
        wait_until(lambda: self.examples() > examples or process.poll() is not None, 60, "training goes on")
        self.assertIsNone(self.schedulers[first].poll())
        self.check_job(process, report, epochs)
        self.assertGreaterEqual(len(self.check_epochs()), 2)

    def test_a_leader_that_is_told_to_stop_hands_over_at_once(self):
        self.start_cluster()
        first, epoch = self.leader(), self.last_epoch()
        self.schedulers[first].terminate()
        self.assertEqual(self.schedulers[first].wait(timeout=10), 0)
        second = self.leader()
        self.assertNotEqual(first, second, "its key is gone with it")
        self.wait_for_leader(after=epoch)
        self.run_ok("status", "--scheduler", self.addresses)

    def test_without_etcd_none_leads_and_with_it_training_goes_on(self):
        epochs = harness.shorter(5, 3)
        self.start_cluster()
        # Small batches: a pass takes seconds, so etcd goes in the middle of one.
        process, report = self.submit(f"train.epochs={epochs}", "train.batch_size=2", "train.workers=2")
        wait_until(lambda: self.examples() > ROWS // 8 or process.poll() is not None, 60, "workers have leases")
        leader, begun = self.leader(), self.workers_cpu_seconds()
        self.etcds[0].kill()
        self.etcds[0].wait()
        wait_until(lambda: "leads no more" in self.said(f"scheduler-{leader}"), 30, "the leader misses etcd")
        self.assertIn("nothing is answered until it can be reached", self.said(f"scheduler-{leader}"))
        self.assertGreater(self.workers_cpu_seconds(), begun, "workers have leases, and need no scheduler meanwhile")
        self.assertIsNone(process.poll())
        self.etcds[0] = self.launch(*self.etcd_commands[0])
        result = self.check_job(process, report, epochs)
        self.assertEqual(result["workers_lost"], 0)
        self.assertGreaterEqual(len(self.check_epochs()), 2)

    def test_an_etcd_that_hangs_is_as_one_that_is_away(self):
        epochs = harness.shorter(5, 3)
        self.start_cluster()
        process, report = self.submit(f"train.epochs={epochs}", "train.batch_size=2", "train.workers=2")
        leader = self.leader()
        # The leader's loop waits for an answer at most a second or two: it notices by itself that its lease is over.
        self.etcds[0].send_signal(signal.SIGSTOP)
        wait_until(lambda: "leads no more" in self.said(f"scheduler-{leader}"), 30, "the leader misses etcd")
        self.etcds[0].send_signal(signal.SIGCONT)
        result = self.check_job(process, report, epochs)
        self.assertEqual(result["workers_lost"], 0)
        self.assertGreaterEqual(len(self.check_epochs()), 2)

    def test_of_three_etcds_any_one_may_go(self):
        epochs = harness.shorter(60, 30)
        self.start_cluster(etcd_members=3)
        process, report = self.submit(f"train.epochs={epochs}", "train.batch_size=16")
        for i in (0, 1):
            self.etcds[i].kill()
            self.etcds[i].wait()
            examples = self.examples()
            wait_until(lambda: self.examples() > examples or process.poll() is not None, 60, "training goes on")
            self.etcds[i] = self.launch(*self.etcd_commands[i])
            wait_until(lambda port=self.etcd_ports[i]: self.ask_etcd("nothing", port) is not None, 60, "it is back")
        self.check_job(process, report, epochs)
        self.check_epochs()

    def test_two_places_for_one_scheduler_are_one_too_many(self):
        outcome = self.finish(self.start("--meta=etcd://a:1", "--data_dir=x", program=BIN / "sheaf-scheduler"), 20)
        self.expect_failure(outcome, 2, "--data_dir or in --meta")
        outcome = self.finish(self.start("--meta=http://a:1", program=BIN / "sheaf-scheduler"), 20)
        self.expect_failure(outcome, 2, "etcd://HOST:PORT")


if __name__ == "__main__":
    harness.main()
