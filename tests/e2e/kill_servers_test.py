"""Servers that keep a store may be killed at any moment, one or all: what they acknowledged is there again."""

import json
import os
import pathlib
import random
import resource
import shutil
import signal
import time

import harness
from harness import ADULT, BIN

ROWS = 32561
BSP_EPOCHS = harness.shorter(16, 8)
KILLS = harness.shorter(10, 5)


class KillServers(harness.SheafTest):
    def run_with_kills(self, *arguments, settings, kills, seed, all_at_once=False, environment=None,
                       ready=lambda pid: True):
        """Kills a random server, or all, now and then; returns report and how many times that was."""
        chance = random.Random(seed)
        report = self.folder / f"killed-{len(self.started)}.json"
        options = [word for setting in settings for word in ("--set", setting)]
        process = self.start("run", ADULT, "--report", report, "--log_dir", self.folder / "logs",
                             "--store_dir", self.folder / f"store-{len(self.started)}", *options, *arguments,
                             environment=environment)
        killed = self.kill_now_and_then(process, "sheaf-server", kills, (0.2, 0.6), chance, all_at_once, ready)
        outcome = self.finish(process, timeout=600)
        self.assertEqual(outcome.code, 0, outcome)
        return json.loads(report.read_text()), killed

    def test_kills_lose_no_example_and_no_quality(self):
        epochs = harness.shorter(60, 30)
        settings = [f"train.epochs={epochs}", "train.batch_size=32"]
        report, killed = self.run_with_kills("--workers", 2, settings=settings, kills=KILLS, seed=1)
        self.assertEqual(killed, KILLS, "the run was over before all kills: make it longer")
        self.assertEqual(report["examples_total"], ROWS * epochs)
        self.assertGreaterEqual(report["servers_restarted"], KILLS - 1)
        quiet = self.run_job(ADULT, "--workers", 2, settings=settings)
        for metric in ("accuracy", "auc"):
            self.assertAlmostEqual(report["test"][metric], quiet["test"][metric], delta=0.002)

    def test_bsp_comes_to_the_same_bytes_though_all_servers_are_killed_at_once(self):
        settings = ["consistency.mode=BSP", f"train.epochs={BSP_EPOCHS}", "train.batch_size=16"]
        killed_model, quiet_model = self.folder / "killed.model", self.folder / "quiet.model"
        report, killed = self.run_with_kills("--workers", 2, "--model", killed_model, settings=settings,
                                             kills=KILLS // 2, seed=2, all_at_once=True)
        self.assertGreaterEqual(killed, 2)
        self.assertEqual(report["examples_total"], ROWS * BSP_EPOCHS)
        self.run_job(ADULT, "--workers", 2, "--model", quiet_model, settings=settings)
        self.assertEqual(killed_model.read_bytes(), quiet_model.read_bytes())

    def test_a_backup_takes_over_from_a_server_that_has_nothing_on_disk(self):
        epochs = harness.shorter(60, 30)
        settings = [f"train.epochs={epochs}", "train.batch_size=8", "durability=MEMORY"]
        options = [word for setting in settings for word in ("--set", setting)]
        report = self.folder / "report.json"
        process = self.start("run", ADULT, "--report", report, "--log_dir", self.folder / "logs", "--servers", 2,
                             "--replicas", 2, *options)
        # One at a time: the next when the copies of what it has are in sync again.
        killed = self.kill_now_and_then(process, "sheaf-server", harness.shorter(4, 2), (2.5, 3.0), random.Random(3))
        outcome = self.finish(process, timeout=600)
        self.assertEqual(outcome.code, 0, outcome)
        report = json.loads(report.read_text())
        self.assertEqual(report["examples_total"], ROWS * epochs)
        self.assertGreaterEqual(killed, 2, "the run was over before the kills: make it longer")
        self.assertIn("backups take over", (self.folder / "logs" / "scheduler.log").read_text())

    def test_bsp_comes_to_the_same_bytes_though_backups_take_over(self):
        settings = ["consistency.mode=BSP", f"train.epochs={harness.shorter(24, 12)}", "train.batch_size=16"]
        options = [word for setting in settings for word in ("--set", setting)]
        killed_model, quiet_model = self.folder / "killed.model", self.folder / "quiet.model"
        process = self.start("run", ADULT, "--model", killed_model, "--servers", 3, "--replicas", 2, *options)
        killed = self.kill_now_and_then(process, "sheaf-server", 3, (2.5, 3.0), random.Random(4))
        outcome = self.finish(process, timeout=600)
        self.assertEqual(outcome.code, 0, outcome)
        self.assertGreaterEqual(killed, 2)
        self.run_job(ADULT, "--model", quiet_model, settings=settings)
        self.assertEqual(killed_model.read_bytes(), quiet_model.read_bytes())

    def test_snapshots_are_made_under_kills_and_what_comes_back_from_them_is_the_same_to_the_byte(self):
        settings = ["consistency.mode=BSP", f"train.epochs={BSP_EPOCHS}", "train.batch_size=16", "rows.admit_after=3"]
        killed_model, quiet_model = self.folder / "killed.model", self.folder / "quiet.model"
        rounds_at_kill = {}

        def has_made_a_round(pid):
            """Since it was started: or it would come back from its log alone, however slow the machine is."""
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            name = next((pathlib.Path(word).name for word in words if word.startswith("--data_dir=")), None)
            if name is None:
                return False  # It is gone.
            rounds = (self.folder / "logs" / f"{name}.log").read_text().count("round of snapshots")
            if rounds <= rounds_at_kill.get(name, 0):
                return False
            rounds_at_kill[name] = rounds
            return True

        report, killed = self.run_with_kills("--workers", 2, "--model", killed_model, settings=settings, kills=KILLS,
                                             seed=3, environment={"SHEAF_SNAPSHOT_AFTER_MB": "0"},
                                             ready=has_made_a_round)
        self.assertGreaterEqual(killed, 4)
        self.assertEqual(report["examples_total"], ROWS * BSP_EPOCHS)
        said = "".join(path.read_text() for path in (self.folder / "logs").glob("server-*.log"))
        recovered = [line for line in said.splitlines() if "recovered" in line and "recovered 0 B of snap" not in line]
        self.assertGreaterEqual(len(recovered), 3, said)
        logs = [segment.stat().st_size for segment in self.folder.glob("store-*/server-*/shard-*/log/*")]
        self.assertLess(sum(logs), 2_000_000, "the logs are cut")
        self.run_job(ADULT, "--workers", 2, "--model", quiet_model, settings=settings)
        self.assertEqual(killed_model.read_bytes(), quiet_model.read_bytes())

    def test_a_job_of_durability_memory_ends_with_its_server(self):
        process = self.start("run", ADULT, "--store_dir", self.folder / "store", "--set", "train.epochs=200",
                             "--set", "durability=MEMORY")
        harness.wait_until(lambda: self.workers_of(process), 30, "workers start")
        time.sleep(1)
        os.kill(self.processes_of(process, "sheaf-server")[0], signal.SIGKILL)
        outcome = self.finish(process, timeout=60)
        self.expect_failure(outcome, 1, "server-", "was started again", "partitions")


class DataFolder(harness.SheafTest):
    """sheaf-server --data_dir: what is no good is said before anything is touched."""

    def server(self, folder, *arguments):
        return self.start(f"--data_dir={folder}", "--scheduler=tcp://127.0.0.1:1", "--scheduler_timeout_s=1",
                          *arguments, program=BIN / "sheaf-server")

    def test_is_of_one_server_at_a_time(self):
        first = self.start(f"--data_dir={self.folder / 'store'}", "--scheduler=tcp://127.0.0.1:1",
                           program=BIN / "sheaf-server")
        harness.wait_until((self.folder / "store" / "STORE").exists, 10, "the store is made")
        self.expect_failure(self.finish(self.server(self.folder / "store")), 1, "in use by another server", "store")
        first.kill()

    def test_keeps_its_number_of_shards(self):
        self.finish(self.server(self.folder / "store", "--shards=2"))
        self.expect_failure(self.finish(self.server(self.folder / "store", "--shards=3")), 78, "--shards=2")

    def test_is_not_somebody_elses_folder(self):
        self.write("home/letter.txt", "dear")
        self.expect_failure(self.finish(self.server(self.folder / "home")), 78, "not a server's")
        self.assertEqual(sorted(path.name for path in (self.folder / "home").iterdir()), ["LOCK", "letter.txt"])

    def test_is_no_file(self):
        self.expect_failure(self.sheaf("run", ADULT, "--store_dir", self.write("file", "")), 1, "--store_dir", "file")

    def test_says_which_log_is_lost(self):
        self.finish(self.server(self.folder / "store", "--shards=2"))
        shutil.rmtree(self.folder / "store" / "shard-1")
        self.expect_failure(self.finish(self.server(self.folder / "store", "--shards=2")), 1, "shard-1", "lost it")

    def test_says_which_file_is_damaged(self):
        self.finish(self.server(self.folder / "store"))
        segment = next((self.folder / "store" / "shard-0" / "log").iterdir())
        segment.write_bytes(b"x" * 100)
        self.expect_failure(self.finish(self.server(self.folder / "store")), 1, segment, "damaged")


    def test_says_which_snapshots_are_damaged(self):
        store = self.folder / "store"
        self.sheaf("run", ADULT, "--servers", 1, "--store_dir", store, "--set", "train.epochs=5", "--set",
                   "train.batch_size=16", environment={"SHEAF_SNAPSHOT_AFTER_MB": "0"})
        folder = store / "server-0"
        rows = folder / "shard-0" / "rows"
        manifest = next(rows.glob("MANIFEST-*"))
        manifest.write_bytes(b"x" * 100 + manifest.read_bytes()[100:])
        self.assertGreater(int(min((folder / "shard-0" / "log").iterdir()).stem), 1, "the log is cut")
        self.expect_failure(self.finish(self.server(folder)), 1, rows, "damaged", "its log does not have all")


class FullDisk(harness.SheafTest):
    """A limit on the size of files is to a server what a full disk is; it is lifted while the job runs."""

    def test_nothing_is_lost_and_training_goes_on_when_there_is_room(self):
        epochs = 30
        report = self.folder / "report.json"
        process = self.start("run", ADULT, "--servers", 1, "--workers", 1, "--store_dir", self.folder / "store",
                             "--log_dir", self.folder / "logs", "--report", report, "--set", f"train.epochs={epochs}")
        servers = harness.wait_until(
            lambda: self.processes_of(process, "sheaf-server"), 30, "the server starts")
        log = self.folder / "store" / "server-0" / "shard-0" / "log"
        harness.wait_until(lambda: log.exists() and sum(f.stat().st_size for f in log.iterdir()) > 2_000_000, 60,
                           "something is in the log")
        unlimited = resource.prlimit(servers[0], resource.RLIMIT_FSIZE)
        resource.prlimit(servers[0], resource.RLIMIT_FSIZE, (2_500_000, unlimited[1]))
        said = self.folder / "logs" / "server-0.log"
        harness.wait_until(lambda: "nothing is answered until there is room" in said.read_text(), 30,
                           "the server says that its disk is full")
        before = sum(f.stat().st_size for f in log.iterdir())
        time.sleep(1)
        self.assertEqual(sum(f.stat().st_size for f in log.iterdir()), before)
        self.assertIsNone(process.poll())
        resource.prlimit(servers[0], resource.RLIMIT_FSIZE, unlimited)
        outcome = self.finish(process, timeout=120)
        self.assertEqual(outcome.code, 0, outcome)
        self.assertEqual(json.loads(report.read_text())["examples_total"], ROWS * epochs)
        self.assertIn("the log can be written again", said.read_text())


if __name__ == "__main__":
    harness.main()
