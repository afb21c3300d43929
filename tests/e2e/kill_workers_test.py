"""Workers may be killed at any moment: nothing is lost, nothing counted twice."""

import json
import os
import random
import signal
import time

import harness
from harness import ADULT

ROWS = 32561
KILLS = harness.shorter(20, 10)


class KillWorkers(harness.SheafTest):
    def run_with_kills(self, *arguments, settings, kills, seed):
        """Kills a random worker now and then until `kills` are dead or the run is over; returns report and kills."""
        chance = random.Random(seed)
        report = self.folder / f"killed-{len(self.started)}.json"
        options = [word for setting in settings for word in ("--set", setting)]
        process = self.start("run", ADULT, "--report", report, "--log_dir", self.folder / "logs", *options, *arguments)
        killed = self.kill_now_and_then(process, "sheaf-worker", kills, (0.1, 0.5), chance)
        outcome = self.finish(process, timeout=600)
        self.assertEqual(outcome.code, 0, outcome)
        return json.loads(report.read_text()), killed

    def test_kills_change_no_count_and_no_quality(self):
        epochs = harness.shorter(30, 15)
        settings = [f"train.epochs={epochs}", "train.batch_size=32"]
        report, killed = self.run_with_kills("--workers", 3, settings=settings, kills=KILLS, seed=1)
        self.assertEqual(killed, KILLS, "the run was over before all kills: make it longer")
        self.assertEqual(report["examples_total"], ROWS * epochs)
        self.assertEqual(report["test"]["examples"], 16281)
        self.assertGreaterEqual(report["workers_restarted"], killed - 3)
        quiet = self.run_job(ADULT, "--workers", 3, settings=settings)
        for metric in ("accuracy", "auc"):
            self.assertAlmostEqual(report["test"][metric], quiet["test"][metric], delta=0.002)

    def test_bsp_comes_to_the_same_bytes(self):
        # INT8, as what its rounding loses must not depend on who computes.
        settings = ["consistency.mode=BSP", "wire.push=INT8", "train.epochs=12", "train.batch_size=16"]
        killed_model, quiet_model = self.folder / "killed.model", self.folder / "quiet.model"
        report, killed = self.run_with_kills("--workers", 2, "--model", killed_model,
                                             settings=settings, kills=KILLS, seed=2)
        self.assertGreaterEqual(killed, 5)
        self.assertEqual(report["examples_total"], ROWS * 12)
        self.run_job(ADULT, "--workers", 2, "--model", quiet_model, settings=settings)
        self.assertEqual(killed_model.read_bytes(), quiet_model.read_bytes())

    def test_bsp_goes_on_with_one_worker_less(self):
        """Nobody takes the dead one's place: a survivor takes over its lane beside its own."""
        report = self.folder / "report.json"
        process = self.start("run", ADULT, "--workers", 3, "--no_restart", "--report", report,
                             "--set", "consistency.mode=BSP", "--set", "train.epochs=30")
        workers = harness.wait_until(
            lambda: len(self.workers_of(process)) == 3 and self.workers_of(process), 30, "workers start")
        for _ in range(2):
            time.sleep(1)
            os.kill(workers.pop(), signal.SIGKILL)
        outcome = self.finish(process, timeout=120)
        self.assertEqual(outcome.code, 0, outcome)
        result = json.loads(report.read_text())
        self.assertEqual(result["examples_total"], ROWS * 30)
        self.assertEqual(result["workers_lost"], 2)


if __name__ == "__main__":
    harness.main()
