"""A scheduler that keeps a store may be killed at any moment: training goes on, and the next one goes on with it."""

import json
import os
import random
import resource
import signal
import time

import harness
from harness import ADULT, BIN

ROWS = 32561
BSP_EPOCHS = harness.shorter(16, 8)
KILLS = harness.shorter(10, 5)


class KillScheduler(harness.SheafTest):
    def run_with_kills(self, *arguments, settings, kills, seed, programs=("sheaf-scheduler",)):
        """Kills a process of one of the programs now and then; returns report and how many were killed."""
        chance = random.Random(seed)
        report = self.folder / f"killed-{len(self.started)}.json"
        options = [word for setting in settings for word in ("--set", setting)]
        process = self.start("run", ADULT, "--report", report, "--log_dir", self.folder / "logs",
                             "--store_dir", self.folder / f"store-{len(self.started)}", *options, *arguments)
        killed = 0
        while killed < kills and process.poll() is None:
            struck = self.kill_now_and_then(process, chance.choice(programs), 1, (0.2, 0.6), chance)
            killed += struck
        outcome = self.finish(process, timeout=600)
        self.assertEqual(outcome.code, 0, outcome)
        return json.loads(report.read_text()), killed, outcome

    def test_kills_lose_no_example_and_no_quality(self):
        epochs = harness.shorter(60, 30)
        settings = [f"train.epochs={epochs}", "train.batch_size=32"]
        report, killed, outcome = self.run_with_kills("--workers", 2, settings=settings, kills=KILLS, seed=1)
        self.assertEqual(killed, KILLS, "the run was over before all kills: make it longer")
        self.assertEqual(report["examples_total"], ROWS * epochs)
        self.assertGreaterEqual(report["schedulers_restarted"], KILLS - 1)
        self.assertEqual(report["workers_restarted"], 0, "a worker gave up")
        self.assertEqual(report["servers_restarted"], 0, "a server gave up")
        self.assertIn("the scheduler was started again and goes on", outcome.err)
        quiet = self.run_job(ADULT, "--workers", 2, settings=settings)
        for metric in ("accuracy", "auc"):
            self.assertAlmostEqual(report["test"][metric], quiet["test"][metric], delta=0.002)

    def test_bsp_comes_to_the_same_bytes(self):
        settings = ["consistency.mode=BSP", f"train.epochs={BSP_EPOCHS}", "train.batch_size=16"]
        killed_model, quiet_model = self.folder / "killed.model", self.folder / "quiet.model"
        report, killed, _ = self.run_with_kills("--workers", 2, "--model", killed_model, settings=settings, kills=KILLS,
                                                seed=2)
        self.assertGreaterEqual(killed, KILLS // 2)
        self.assertEqual(report["examples_total"], ROWS * BSP_EPOCHS)
        self.run_job(ADULT, "--workers", 2, "--model", quiet_model, settings=settings)
        self.assertEqual(killed_model.read_bytes(), quiet_model.read_bytes())

    def test_bsp_comes_to_the_same_bytes_though_anybody_is_killed(self):
        settings = ["consistency.mode=BSP", f"train.epochs={BSP_EPOCHS}", "train.batch_size=16"]
        killed_model, quiet_model = self.folder / "killed.model", self.folder / "quiet.model"
        report, killed, _ = self.run_with_kills("--workers", 2, "--model", killed_model, settings=settings, kills=KILLS,
                                                seed=3, programs=("sheaf-scheduler", "sheaf-server", "sheaf-worker"))
        self.assertGreaterEqual(killed, KILLS // 2)
        self.assertEqual(report["examples_total"], ROWS * BSP_EPOCHS)
        self.run_job(ADULT, "--workers", 2, "--model", quiet_model, settings=settings)
        self.assertEqual(killed_model.read_bytes(), quiet_model.read_bytes())

    def test_without_a_store_the_run_ends_and_says_so(self):
        process = self.start("run", ADULT, "--set", "train.epochs=200")
        harness.wait_until(lambda: self.workers_of(process), 30, "workers start")
        os.kill(self.processes_of(process, "sheaf-scheduler")[0], signal.SIGKILL)
        self.expect_failure(self.finish(process, timeout=60), 6, "scheduler ended", "cannot go on without it")


class Cluster(harness.SheafTest):
    """Processes started one by one, as on several machines."""

    def scheduler(self, *arguments, port=0, folder="store"):
        options = [f"--data_dir={self.folder / folder}"] if folder else []
        address = self.folder / "address"
        address.unlink(missing_ok=True)
        process = self.start(*options, f"--port={port}", f"--address_file={address}", *arguments,
                             program=BIN / "sheaf-scheduler")
        harness.wait_until(lambda: address.exists() or process.poll() is not None, 10, "the scheduler starts")
        return process, address.read_text().strip() if address.exists() else ""

    def member(self, program, address, *arguments):
        log = open(self.folder / f"{program}-{len(self.started)}.log", "w")
        self.addCleanup(log.close)
        return self.start(f"--scheduler={address}", *arguments, program=BIN / program), log

    def test_a_scheduler_without_a_store_that_begins_anew_is_told_from_one_that_goes_on(self):
        first, address = self.scheduler(folder=None)
        server, _ = self.member("sheaf-server", address)
        harness.wait_until(lambda: "server-0" in self.sheaf("status", "--scheduler", address).out, 10, "it registers")
        first.kill()
        first.wait()
        self.scheduler(folder=None, port=address.rsplit(":", 1)[1])
        outcome = self.finish(server, timeout=30)
        self.expect_failure(outcome, 6, "was started anew", "--data_dir would go on")

    def test_members_go_on_with_a_scheduler_that_was_away_for_a_while(self):
        first, address = self.scheduler()
        server, _ = self.member("sheaf-server", address, "--scheduler_timeout_s=2")
        worker, _ = self.member("sheaf-worker", address, "--scheduler_timeout_s=2")
        both = lambda: (lambda out: "server-0" in out and "worker-0" in out)(
            self.sheaf("status", "--scheduler", address).out)
        harness.wait_until(both, 10, "they register")
        first.kill()
        first.wait()
        time.sleep(3)  # longer than their own time-out
        begin = time.monotonic()
        self.scheduler(port=address.rsplit(":", 1)[1])
        status = json.loads(self.run_ok("status", "--scheduler", address, "--output", "json").out)
        self.assertLess(time.monotonic() - begin, 3, "restart to serving")
        self.assertEqual(sorted(node["name"] for node in status["nodes"]), ["server-0", "worker-0"])
        harness.wait_until(lambda: all(node["last_report_seconds"] < 1 and node["state"] == "alive" for node in
                                       json.loads(self.sheaf("status", "--scheduler", address, "--output", "json").out)
                                       ["nodes"]), 10, "both report again")
        self.assertIsNone(server.poll())
        self.assertIsNone(worker.poll())

    def test_clients_wait_for_it_and_say_so(self):
        first, address = self.scheduler()
        submitted = self.start("submit", ADULT, "--scheduler", address, "--follow")
        harness.wait_until(lambda: "adult" in self.sheaf("jobs", "--scheduler", address).out, 10, "the job is there")
        time.sleep(0.5)
        first.kill()
        first.wait()
        time.sleep(4)
        self.scheduler(port=address.rsplit(":", 1)[1])
        harness.wait_until(lambda: self.sheaf("cancel", "1", "--scheduler", address).code == 0, 10, "it is cancelled")
        outcome = self.finish(submitted, timeout=30)
        self.expect_failure(outcome, 1, "no answer from the scheduler", "answers again", "was started again",
                            "cancelled")


class DataFolder(harness.SheafTest):
    """sheaf-scheduler --data_dir: what is no good is said before anything is touched."""

    def scheduler(self, folder, *arguments, seconds=1.0):
        process = self.start(f"--data_dir={folder}", "--port=0", f"--address_file={self.folder / 'address'}",
                             *arguments, program=BIN / "sheaf-scheduler")
        end = time.monotonic() + seconds
        while time.monotonic() < end and process.poll() is None and not (self.folder / "address").exists():
            time.sleep(0.02)
        if process.poll() is None:
            process.terminate()
        return self.finish(process)

    def make(self, folder, *arguments):
        outcome = self.scheduler(folder, *arguments, seconds=10)
        self.assertEqual(outcome.code, 0, outcome)
        (self.folder / "address").unlink()

    def test_is_of_one_scheduler_at_a_time(self):
        first = self.start(f"--data_dir={self.folder / 'store'}", "--port=0", program=BIN / "sheaf-scheduler")
        harness.wait_until((self.folder / "store" / "CLUSTER").exists, 10, "the store is made")
        self.expect_failure(self.scheduler(self.folder / "store"), 1, "in use by another", "store")
        first.kill()

    def test_keeps_its_number_of_partitions(self):
        self.make(self.folder / "store", "--partitions=8")
        self.expect_failure(self.scheduler(self.folder / "store", "--partitions=9"), 78, "--partitions=8", "not 9")

    def test_is_not_somebody_elses_folder(self):
        self.write("home/letter.txt", "dear")
        self.expect_failure(self.scheduler(self.folder / "home"), 78, "not a scheduler's", "letter.txt")
        self.assertEqual(sorted(path.name for path in (self.folder / "home").iterdir()), ["LOCK", "letter.txt"])

    def test_is_not_a_servers(self):
        self.write("server/STORE", "format: 1\n")
        self.expect_failure(self.scheduler(self.folder / "server"), 78, "not a scheduler's", "STORE")

    def test_says_that_it_is_damaged(self):
        self.make(self.folder / "store")
        (self.folder / "store" / "meta" / "CURRENT").unlink()
        self.expect_failure(self.scheduler(self.folder / "store"), 1, "store", "lost")

    def test_says_that_it_is_another_clusters(self):
        self.make(self.folder / "store")
        (self.folder / "store" / "CLUSTER").write_text("0000000000000001\n")
        self.expect_failure(self.scheduler(self.folder / "store"), 1, "CLUSTER", "do not belong together")

    def test_cannot_be_below_a_file(self):
        self.expect_failure(self.scheduler(self.write("file", "") / "store"), 1, "file")


class FullDisk(harness.SheafTest):
    """A limit on the size of files is to a scheduler what a full disk is; it is lifted while the job runs."""

    def test_nothing_is_lost_and_the_job_goes_on_when_there_is_room(self):
        epochs = 60
        report = self.folder / "report.json"
        process = self.start("run", ADULT, "--servers", 1, "--workers", 1, "--store_dir", self.folder / "store",
                             "--log_dir", self.folder / "logs", "--report", report, "--set", f"train.epochs={epochs}")
        scheduler = harness.wait_until(
            lambda: self.processes_of(process, "sheaf-scheduler"), 30, "the scheduler starts")[0]
        meta, said = self.folder / "store" / "scheduler" / "meta", self.folder / "logs" / "scheduler.log"
        largest = lambda: max((file.stat().st_size for file in meta.glob("*.log")), default=0)
        # Its own log must find room below the limit, too.
        harness.wait_until(lambda: largest() > 20_000 + said.stat().st_size, 60, "something is in the store")
        unlimited = resource.prlimit(scheduler, resource.RLIMIT_FSIZE)
        resource.prlimit(scheduler, resource.RLIMIT_FSIZE, (largest() + 1, unlimited[1]))
        harness.wait_until(lambda: "nothing is answered until there is room" in said.read_text(), 30,
                           "the scheduler says that its disk is full")
        resource.prlimit(scheduler, resource.RLIMIT_FSIZE, unlimited)
        outcome = self.finish(process, timeout=120)
        self.assertEqual(outcome.code, 0, outcome)
        result = json.loads(report.read_text())
        self.assertEqual(result["examples_total"], ROWS * epochs)
        self.assertEqual(result["schedulers_restarted"], 0)
        self.assertIn("the store can be written again", said.read_text())


if __name__ == "__main__":
    harness.main()
