"""sheaf chaos: breaks the processes of a cluster of `sheaf run`, and tells what happened."""

import json
import os
import shutil
import subprocess
import unittest

import harness
from harness import ADULT

ROWS = 32561


class ChaosCommand(harness.SheafTest):
    def start_run(self, *arguments, epochs=60, environment=None):
        """A run that takes a while; answers it and the scheduler's address, once training has begun."""
        self.report = self.folder / "report.json"
        process = self.start("run", ADULT, "--report", self.report, "--log_dir", self.folder / "logs", "--set",
                             f"train.epochs={epochs}", "--set", "train.batch_size=32", *arguments,
                             environment=environment)
        address = self.folder / "logs" / "scheduler.address"
        harness.wait_until(lambda: address.exists() and address.read_text().strip(), 30, "the scheduler starts")
        address = address.read_text().strip()

        def training():
            status = self.sheaf("status", "--scheduler", address, "-o", "json")
            if status.code != 0:
                return False
            told = json.loads(status.out)
            # Nothing is on its way any more: who has something that nobody else has is waited for.
            return told.get("moving", 0) == 0 and any(job["examples_total"] > 0 for job in told["jobs"])

        harness.wait_until(training, 30, "training begins")
        return process, address

    def chaos(self, address, *words, code=0):
        outcome = self.sheaf("chaos", *words, "--scheduler", address, timeout=90)
        self.assertEqual(outcome.code, code, outcome)
        return outcome

    def test_kills_and_pauses_by_name_and_tells_who_took_over(self):
        process, address = self.start_run("--servers", 3, "--replicas", 2, "--store_dir", self.folder / "store",
                                          epochs=400)
        killed = self.processes_of(process, "sheaf-worker")
        self.assertIn("killed worker-0 (process", self.chaos(address, "kill", "worker-0").out)
        self.assertLess(len(set(killed) & set(self.processes_of(process, "sheaf-worker"))), len(killed))
        # Longer than --take_over_after_ms: others take over, and it comes back as one that lost its place.
        paused = self.chaos(address, "pause", "server-1", "--for", "2500ms").out
        self.assertRegex(paused, r"paused server-1 \(process \d+\) for 2.5 s")
        self.assertIn("server-1 is dead", paused)
        self.assertIn("of server-1", paused)
        self.assertRegex(paused, r"training goes on, after it stood still for \d")
        self.assertIn("server-1 is heard again", paused)
        self.assertIn("the scheduler was started again", self.chaos(address, "kill", "scheduler").out)
        at_random = self.chaos(address, "random", "--minutes", "0.05", "--seed", "3").out
        self.assertIn("longest pause of training", at_random)
        self.interrupt(process)
        self.finish(process)

    def test_what_it_breaks_is_not_lost(self):
        process, address = self.start_run("--servers", 2, "--replicas", 2, "--store_dir", self.folder / "store")
        self.chaos(address, "kill", "server-0")
        outcome = self.finish(process)
        self.assertEqual(outcome.code, 0, outcome)
        report = json.loads(self.report.read_text())
        self.assertEqual(report["examples_total"], ROWS * 60)
        self.assertEqual(report["servers_restarted"], 1)

    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("iptables"), "needs root and iptables")
    def test_cuts_a_server_off_and_connects_it_again(self):
        process, address = self.start_run("--servers", 2, "--replicas", 2, epochs=400,
                                          environment={"SHEAF_LOCAL_SOCKETS": "false"})
        cut = self.chaos(address, "partition", "server-0", "--for", "2s").out
        self.assertIn("server-0 is dead", cut)
        self.assertIn("server-0 is connected again", cut)
        rules = subprocess.run(["iptables", "-S"], capture_output=True, text=True, check=True).stdout
        self.assertNotIn("SHEAF-CHAOS", rules)
        self.interrupt(process)
        self.finish(process)

    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("iptables"), "needs root and iptables")
    def test_does_not_pretend_to_cut_what_unix_sockets_carry_around_the_firewall(self):
        process, address = self.start_run("--servers", 2, epochs=400)
        self.expect_failure(self.chaos(address, "partition", "server-0", code=1), 1, "Unix socket",
                            "SHEAF_LOCAL_SOCKETS=false")
        self.interrupt(process)
        self.finish(process)

    def test_says_what_is_wrong_in_one_line(self):
        process, address = self.start_run("--servers", 1, epochs=400)
        for words, code, texts in [
                (("kill", "srever-0"), 3, ("srever-0", 'did you mean "server-0"')),
                (("kil", "server-0"), 2, ('no act "kil"', 'did you mean "kill"')),
                (("kill",), 2, ("needs a name",)),
                (("random", "server-0"), 2, ("no name",)),
                (("pause", "server-0", "--for", "soon"), 2, ("--for", "5s")),
                (("wake", "server-0"), 2, ("wake",))]:
            outcome = self.chaos(address, *words, code=code)
            self.expect_failure(outcome, code, *texts)
            self.assertEqual(len(outcome.err.strip().splitlines()), 1, outcome)
        self.interrupt(process)
        self.finish(process)
        self.expect_failure(self.sheaf("chaos", "kill", "server-0", "--scheduler", address, "--timeout", "1"), 6,
                            "no answer from the scheduler")


if __name__ == "__main__":
    harness.main()
