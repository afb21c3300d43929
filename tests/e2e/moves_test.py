"""Partitions change servers while a job runs: a server is added, another is drained, and nothing becomes of the job."""

import json

import harness
from harness import ADULT

ROWS = 32561
EPOCHS = harness.shorter(60, 24)


class Moves(harness.SheafTest):
    def servers(self, address):
        status = json.loads(self.run_ok("status", "--scheduler", address, "-o", "json").out)
        return {node["name"]: node for node in status["nodes"] if node["role"] == "server" and node["state"] == "alive"}

    def marked_servers(self):
        return [pid for pid, name in self.marked_processes().items() if name == "sheaf-server"]

    def start_run(self, *arguments):
        """Answers the run, and the scheduler's address once there are workers and both servers."""
        process = self.start("run", ADULT, "--log_dir", self.folder / "logs", *arguments)
        address = self.folder / "logs" / "scheduler.address"
        harness.wait_until(lambda: address.exists() and address.read_text().strip(), 30, "the scheduler starts")
        harness.wait_until(lambda: self.workers_of(process), 30, "workers start")
        address = address.read_text().strip()
        harness.wait_until(lambda: len(self.servers(address)) == 2, 30, "its servers are in")
        return process, address

    def test_bsp_comes_to_the_same_bytes_though_servers_come_and_go(self):
        settings = ["consistency.mode=BSP", f"train.epochs={EPOCHS}", "train.batch_size=16"]
        options = [word for setting in settings for word in ("--set", setting)]
        moved_model, quiet_model = self.folder / "moved.model", self.folder / "quiet.model"
        report = self.folder / "report.json"
        process, address = self.start_run("--servers", 2, "--workers", 2, "--model", moved_model, "--report", report,
                                          *options)
        added = self.run_ok("node", "add", "--scheduler", address, "--log_dir", self.folder / "added")
        self.assertIn("server-2 is in", added.out)
        self.assertGreater(self.servers(address)["server-2"]["partitions"], 0)
        drained = self.run_ok("node", "drain", "server-0", "--scheduler", address)
        self.assertIn("server-0 has nothing any more", drained.out)
        self.assertEqual(self.servers(address)["server-0"]["partitions"], 0)
        self.run_ok("node", "keep", "server-0", "--scheduler", address)
        harness.wait_until(lambda: self.servers(address)["server-0"]["partitions"] > 0, 60, "it has something again")
        removed = self.run_ok("node", "rm", "server-2", "--scheduler", address)
        self.assertIn("server-2 has been stopped", removed.out)
        harness.wait_until(lambda: len(self.marked_servers()) == 2, 30, "its process ends")
        self.assertIsNone(process.poll(), "the run was over before all moves: make it longer")
        outcome = self.finish(process)
        self.assertEqual(outcome.code, 0, outcome)
        self.assertEqual(json.loads(report.read_text())["examples_total"], ROWS * EPOCHS)
        self.run_job(ADULT, "--workers", 2, "--model", quiet_model, settings=settings)
        self.assertEqual(moved_model.read_bytes(), quiet_model.read_bytes())

    def test_says_what_cannot_be_done(self):
        process, address = self.start_run("--servers", 2, "--replicas", 2, "--set", "train.epochs=200")
        node = lambda *words: self.sheaf("node", *words, "--scheduler", address)
        self.expect_failure(node("drain", "server-7"), 3, "no server server-7", "server-0, server-1")
        self.expect_failure(node("drain", "server-0"), 78, "is 1 server for 2 copies", "add a server first")
        self.expect_failure(node("empty", "server-0"), 2, "add, drain, keep or rm")
        self.expect_failure(node("drain"), 2, "takes one SERVER")
        no_log = self.folder / "job.textproto"
        no_log.write_text("")
        self.expect_failure(node("add", "--log_dir", no_log), 1, "--log_dir")
        added = self.sheaf("node", "add", "--scheduler", address, "--log_dir", self.folder, "--", "--port=x")
        self.expect_failure(added, 1, "has ended", "--port")
        self.interrupt(process)
        self.finish(process)


if __name__ == "__main__":
    harness.main()
