"""Processes of one host talk to servers over unix sockets, over TCP if told to; the one fails as the other does."""

import json
import os
import pathlib
import re

import harness
from harness import ADULT, BIN

SHARDS = 2
ROWS = 32561
CONNECTED, ESTABLISHED = "03", "01"  # states in /proc/net/unix and /proc/net/tcp


def sockets_of(process):
    """The inodes of its sockets."""
    found = set()
    for entry in pathlib.Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            match = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(entry))
        except FileNotFoundError:
            continue  # it has just been closed
        if match:
            found.add(match[1])
    return found


def rows(table):
    return [line.split() for line in pathlib.Path("/proc/net", table).read_text().splitlines()[1:]]


def local_sockets(process):
    """(listening, connected): its unix sockets that are named as those of shards are."""
    inodes = sockets_of(process)
    states = [row[5] for row in rows("unix") if row[6] in inodes and row[7:] and row[7].startswith("@sheaf-")]
    return len(states) - states.count(CONNECTED), states.count(CONNECTED)


def tcp_connections(process):
    """All IPv4 connections, also those of sockets that ZeroMQ has made for both families."""
    inodes = sockets_of(process)
    return sum(row[3] == ESTABLISHED and row[9] in inodes for table in ("tcp", "tcp6") for row in rows(table))


class LocalSockets(harness.SheafTest):
    def setUp(self):
        super().setUp()
        address_file = self.folder / "address"
        self.start(f"--address_file={address_file}", "--port=0", "--server_dead_after_ms=2000",
                   program=BIN / "sheaf-scheduler")
        harness.wait_until(address_file.exists, 20, "scheduler starts")
        self.address = address_file.read_text().strip()

    def start_server(self, *flags):
        return self.start(f"--scheduler={self.address}", f"--shards={SHARDS}", *flags, program=BIN / "sheaf-server")

    def start_worker(self):
        return self.start(f"--scheduler={self.address}", f"--data={ADULT.parent / 'data'}",
                          program=BIN / "sheaf-worker")

    def submit(self, epochs):
        """A job's number."""
        return self.run_ok("submit", ADULT, "--scheduler", self.address, "--set", f"train.epochs={epochs}").out.strip()

    def job_status(self, number):
        [job] = json.loads(self.run_ok("jobs", number, "-o", "json", "--scheduler", self.address).out)
        return job

    def wait_for_examples(self, number):
        harness.wait_until(lambda: self.job_status(number)["examples_total"] > 0, 30, "it trains")

    def wait_for_end(self, number):
        return harness.wait_until(
            lambda: (job := self.job_status(number))["status"] in ("finished", "failed") and job, 120, "the job's end")

    def expect_trained(self):
        job = self.wait_for_end(self.submit(2))
        self.assertEqual((job["status"], job["examples_total"]), ("finished", 2 * ROWS), job)

    def expect_connections(self, server, worker, local):
        """Of this worker alone. Those of the commands before end a moment after their processes."""
        wanted = ((SHARDS, SHARDS), 1) if local else ((0, 0), 1 + SHARDS)
        harness.wait_until(lambda: (local_sockets(server), tcp_connections(worker)) == wanted, 10,
                           f"unix sockets listening and connected, and TCP connections, are {wanted}")

    def test_are_used_on_one_host(self):
        server, worker = self.start_server(), self.start_worker()
        self.expect_trained()
        self.expect_connections(server, worker, local=True)

    def test_can_be_switched_off(self):
        server, worker = self.start_server("--local_sockets=false"), self.start_worker()
        self.expect_trained()
        self.expect_connections(server, worker, local=False)

    def test_a_killed_server_is_missed_and_its_successor_found(self):
        for flag in ("--local_sockets=true", "--local_sockets=false"):
            with self.subTest(flag):
                server, worker = self.start_server(flag), self.start_worker()
                job = self.submit(100000)
                self.wait_for_examples(job)
                server.kill()
                server.wait()
                failed = self.wait_for_end(job)
                self.assertEqual(failed["status"], "failed")
                self.assertRegex(failed["detail"], r"^server-\d+ .* has not been heard")
                successor = self.start_server(flag)
                self.expect_trained()
                self.assertIsNone(worker.poll())
                for process in (worker, successor):
                    process.terminate()
                    process.wait()

    def test_a_killed_worker_is_replaced(self):
        server, doomed, other = self.start_server(), self.start_worker(), self.start_worker()
        job = self.submit(100)
        self.wait_for_examples(job)
        doomed.kill()
        doomed.wait()
        finished = self.wait_for_end(job)
        self.assertEqual((finished["status"], finished["examples_total"]), ("finished", 100 * ROWS), finished)
        self.expect_connections(server, other, local=True)


if __name__ == "__main__":
    harness.main()
