"""Features that come only now and then get no row, rows that nobody pushes to any more go, and those that are not used
leave memory for a while."""

import json
import random

import harness

JOB = """
name: "rows"
data { format: CLICKS train: "train.tsv" test: "test.tsv" }
model { kind: LINEAR loss: LOGISTIC }
optimizer { kind: ADAGRAD learning_rate: 0.05 }
train { epochs: 1 batch_size: 64 shuffle: NONE }
"""


class Rows(harness.SheafTest):
    def make(self, rows):
        """Clicks with a column that tells something, and one that is another one each time."""
        chance = random.Random(1)
        for name, count in (("train", rows), ("test", 5_000)):
            lines = []
            for i in range(count):
                kind = chance.randrange(20)
                lines.append(f"{int(chance.random() < kind / 20)}\tkind-{kind}\t{name}-{i}\n")
            self.write(f"{name}.tsv", "".join(lines))
        return self.job(JOB)

    def test_are_few_if_they_must_be_seen_again_and_the_model_is_as_good(self):
        rows = 50_000
        job = self.make(rows)
        sizes, areas = {}, {}
        for after in (1, 2):
            model = self.folder / f"model-{after}"
            report = self.run_job(job, "--data", self.folder, "--model", model,
                                  settings=[f"rows.admit_after={after}", "consistency.mode=BSP"])
            self.assertEqual(report["examples_total"], rows)
            sizes[after], areas[after] = model.stat().st_size, report["test"]["auc"]
        print(f"\nonce: {sizes[1]:,} bytes, AUC {areas[1]:.4f}; twice: {sizes[2]:,} bytes, {areas[2]:.4f}", flush=True)
        self.assertGreater(sizes[1], rows * 8)
        self.assertLess(sizes[2], sizes[1] / 10)
        self.assertGreater(areas[2], areas[1] - 0.01)

    def test_expire_while_a_job_trains(self):
        rows = 200_000
        job = self.make(rows)
        logs, report = self.folder / "logs", self.folder / "report.json"
        process = self.start("run", job, "--data", self.folder, "--store_dir", self.folder / "store", "--log_dir", logs,
                             "--servers", 2, "--replicas", 2, "--report", report, "--set", "rows.expire_after_s=1",
                             "--set", "train.batch_size=4")
        address = logs / "scheduler.address"
        harness.wait_until(lambda: address.exists() and address.read_text().strip(), 30, "the scheduler starts")

        def expired():
            outcome = self.sheaf("status", "--scheduler", address.read_text().strip(), "--output", "json")
            nodes = json.loads(outcome.out)["nodes"] if outcome.code == 0 else []
            return process.poll() is not None or sum(node.get("expired_rows", 0) for node in nodes) > 1000
        harness.wait_until(expired, 120, "rows expire")
        self.assertIsNone(process.poll(), "the run was over before: make it longer")
        outcome = self.finish(process)
        self.assertEqual(outcome.code, 0, outcome)
        result = json.loads(report.read_text())
        self.assertEqual(result["examples_total"], rows)
        said = "".join(path.read_text() for path in logs.glob("*.log"))
        self.assertNotIn("is made anew", said, "copies have the same rows")

    def test_leave_memory_and_come_back_as_they_were_though_their_server_is_killed(self):
        rows = 60_000
        job = self.make(rows)
        settings = ["consistency.mode=BSP", "train.batch_size=128", "train.epochs=2",
                    "model.kind=FACTORIZATION_MACHINE", "model.factors=63"]
        killed_model, quiet_model, report = (self.folder / name for name in ("killed", "quiet", "report.json"))
        logs = self.folder / "logs"
        options = [word for setting in settings for word in ("--set", setting)]
        # 31 MB of rows where there is room for 18.
        process = self.start("run", job, "--data", self.folder, "--servers", 1, "--store_dir", self.folder / "store",
                             "--log_dir", logs, "--model", killed_model, "--report", report, *options,
                             environment={"SHEAF_MEMORY_LIMIT": "32MiB"})
        address = logs / "scheduler.address"
        harness.wait_until(lambda: address.exists() and address.read_text().strip(), 30, "the scheduler starts")

        def cold(pid):
            outcome = self.sheaf("status", "--scheduler", address.read_text().strip(), "--output", "json")
            nodes = json.loads(outcome.out)["nodes"] if outcome.code == 0 else []
            return sum(node.get("cold_reads", 0) for node in nodes if node.get("pid") == pid) > 0
        killed = self.kill_now_and_then(process, "sheaf-server", 2, (0.2, 0.6), random.Random(1), ready=cold)
        outcome = self.finish(process)
        self.assertEqual(outcome.code, 0, outcome)
        self.assertEqual(killed, 2, "the run was over before the kills: make it longer")
        self.assertEqual(json.loads(report.read_text())["examples_total"], 2 * rows)
        self.run_job(job, "--data", self.folder, "--servers", 1, "--model", quiet_model, settings=settings)
        self.assertEqual(killed_model.read_bytes(), quiet_model.read_bytes())


if __name__ == "__main__":
    harness.main()
