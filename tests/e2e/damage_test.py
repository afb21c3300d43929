"""A store that is damaged while its server is away: found, never served, and made good from copies if there are any."""

import json
import random
import signal
import subprocess

import harness
from harness import ADULT, BIN

ROWS = 32561


class Cluster(harness.SheafTest):
    """Scheduler, servers and a worker of our own: `sheaf run` would start a server again before it is damaged."""

    replicas = 2

    def setUp(self):
        super().setUp()
        address = self.folder / "address"
        self.log = lambda name: self.folder / f"{name}.log"
        self.spawn("scheduler", "--port=0", f"--address_file={address}", f"--data_dir={self.folder / 'scheduler'}",
                   "--min_servers=2", f"--replicas={self.replicas}")
        self.address = harness.wait_until(lambda: address.exists() and address.read_text().strip(), 30, "an address")
        self.servers = [self.server(i) for i in range(2)]
        self.spawn("worker", f"--scheduler={self.address}", f"--data={harness.ROOT / 'examples' / 'data'}")

    def spawn(self, kind, *arguments, name=None, environment=None):
        log = open(self.log(name or kind), "a")
        self.addCleanup(log.close)
        settings = harness.clean_environment() | {"SHEAF_E2E": str(self.folder)} | (environment or {})
        process = subprocess.Popen([str(BIN / f"sheaf-{kind}"), *arguments], stderr=log, stdout=log,
                                           env=settings, cwd=self.folder)
        self.started.append(process)
        return process

    def server(self, number):
        return self.spawn("server", f"--scheduler={self.address}", f"--data_dir={self.folder / f'store-{number}'}",
                          name=f"server-{number}", environment={"SHEAF_SNAPSHOT_AFTER_MB": "0"})

    def submit(self, epochs):
        report = self.folder / "report.json"
        process = self.start("submit", ADULT, "--scheduler", self.address, "--follow", "--report", report, "--set",
                             f"train.epochs={epochs}", "--set", "train.batch_size=32")
        return process, report

    def status(self):
        return json.loads(self.run_ok("status", "--scheduler", self.address, "-o", "json").out)

    def alive(self):
        return {node["name"]: node for node in self.status()["nodes"]
                if node["role"] == "server" and node["state"] == "alive"}

    def in_sync(self):
        status = self.status()
        pids = {node["pid"] for node in self.alive().values()}
        return pids == {server.pid for server in self.servers} and status["moving"] == 0 and all(
            node["copies"] > 0 for node in self.alive().values())

    def kill(self, process):
        process.send_signal(signal.SIGKILL)
        process.wait()

    def flip(self, number, pattern, seed):
        """One bit of the largest file there is of that kind."""
        files = sorted((self.folder / f"store-{number}").glob(pattern), key=lambda path: path.stat().st_size)
        path = files[-1]
        content = bytearray(path.read_bytes())
        # Not the last tenth: in a log that may be the record that was being written.
        at = random.Random(seed).randrange(64, max(65, len(content) * 9 // 10)) // 8 * 8
        content[at] ^= 0x40
        path.write_bytes(content)
        return path


class Repaired(Cluster):
    def test_by_copies_of_others_and_training_goes_on(self):
        process, report = self.submit(epochs=harness.shorter(200, 40))
        for turn, pattern in enumerate(["shard-0/log/*.redo", "shard-0/rows/*.sst"]):
            harness.wait_until(self.in_sync, 60, "both servers have copies of all")
            store = self.folder / "store-0" / "shard-0"
            harness.wait_until(lambda: list((store / "rows").glob("*.sst")) and
                               sum(path.stat().st_size for path in (store / "log").glob("*.redo")) > 5_000, 60,
                               "the store has something")
            self.kill(self.servers[0])
            damaged = self.flip(0, pattern, seed=turn)
            self.servers[0] = self.server(0)
            said = self.log("server-0")
            # What was damaged may be of no use any more: then it is not read.
            harness.wait_until(self.in_sync, 60, f"server-0 has copies again ({damaged})")
            self.assertIsNone(process.poll(), "the run was over before: make it longer")
        outcome = self.finish(process, timeout=300)
        self.assertEqual(outcome.code, 0, outcome)
        # Of every partition all examples of every pass were counted once: the scheduler compares.
        self.assertEqual(json.loads(report.read_text())["examples_total"], ROWS * harness.shorter(200, 40))
        self.assertIn("the damaged store is put aside", said.read_text())
        self.assertTrue(list((self.folder / "store-0").glob("damaged-*/shard-0/log")))
        self.assertNotIn("copies anew", self.run_ok("status", "--scheduler", self.address).out)


class OnlyCopy(Cluster):
    replicas = 1

    def test_is_not_served_and_the_server_says_what_is_damaged(self):
        process, _ = self.submit(epochs=500)
        log = self.folder / "store-0" / "shard-0" / "log"
        harness.wait_until(lambda: log.exists() and sum(path.stat().st_size for path in log.glob("*.redo")) > 5_000, 60,
                           "the log has something")
        self.kill(self.servers[0])
        damaged = self.flip(0, "shard-0/log/*.redo", seed=0)
        again = self.server(0)
        self.assertEqual(again.wait(timeout=60), 1)
        said = self.log("server-0").read_text()
        self.assertIn("is damaged", said)
        self.assertIn(str(damaged), said)
        self.assertIn("partitions that nobody else has a copy of", said)
        self.assertFalse(list((self.folder / "store-0").glob("damaged-*")), "nothing was moved")
        self.assertIsNone(process.poll())
        process.send_signal(signal.SIGINT)
        self.finish(process)


class Identity(harness.SheafTest):
    def server(self, folder):
        return self.start(f"--data_dir={folder}", "--scheduler=tcp://127.0.0.1:1", "--scheduler_timeout_s=1",
                          program=BIN / "sheaf-server")

    def test_is_kept_twice_and_no_flipped_byte_makes_it_anothers(self):
        store = self.folder / "store"
        self.finish(self.server(store))
        name = store / "STORE"
        before = next(line for line in name.read_text().splitlines() if line.startswith("store:"))
        found = 0
        for at in range(0, len(name.read_bytes()), 11):
            content = bytearray(name.read_bytes())
            content[at] ^= 1
            name.write_bytes(content)
            outcome = self.finish(self.server(store))
            self.expect_failure(outcome, 6, "no word from the scheduler")
            found += "STORE is damaged, or lost: its copy is good" in outcome.err
            self.assertIn(before, name.read_text())
        self.assertGreater(found, 5, "blanks say nothing, all else does")
        for path in (name, store / "STORE.copy"):
            content = bytearray(path.read_bytes())
            content[content.index(b"store:") + 10] ^= 1
            path.write_bytes(content)
        self.expect_failure(self.finish(self.server(store)), 1, "STORE cannot be read")


if __name__ == "__main__":
    harness.main()
