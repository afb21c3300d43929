"""Trains Adult as the quick start does, in every consistency mode, and holds it to its quality."""

import csv
import io
import json

import harness
from harness import ADULT

ROWS = 32561
EPOCHS = 5


class Adult(harness.SheafTest):
    def check_quality(self, report):
        self.assertEqual(report["status"], "finished", report)
        self.assertEqual(report["examples_total"], ROWS * EPOCHS)
        self.assertEqual(report["test"]["examples"], 16281)
        self.assertGreaterEqual(report["test"]["accuracy"], 0.848, report["test"])
        self.assertGreaterEqual(report["test"]["auc"], 0.900, report["test"])
        self.assertEqual(len(report["train_loss"]), EPOCHS)
        self.assertLess(report["train_loss"][-1], report["train_loss"][0])
        self.assertEqual(sum(map(sum, report["test"]["confusion"])), 16281)

    def test_quick_start_reaches_its_quality_and_predicts_the_same(self):
        model = self.folder / "adult.model"
        report = self.run_job(ADULT, "--servers", 2, "--workers", 2, "--model", model)
        self.check_quality(report)
        data = harness.ROOT / "examples" / "data" / "adult" / "a9a.t.xz"
        metrics = json.loads(self.run_ok("predict", "--model", model, "--data", data, "--metrics", "-o", "json").out)
        self.assertEqual(metrics["confusion"], report["test"]["confusion"])
        self.assertAlmostEqual(metrics["auc"], report["test"]["auc"], places=6)
        lines = io.StringIO(self.run_ok("predict", "--model", model, "--data", data, "-o", "tsv").out)
        rows = list(csv.DictReader(lines, delimiter="\t"))
        self.assertEqual(len(rows), 16281)
        right = sum(row["label"] == row["predicted"] for row in rows)
        self.assertAlmostEqual(right / len(rows), report["test"]["accuracy"], places=9)

    def test_every_mode_and_number_of_workers_comes_to_the_same_quality(self):
        reports = {}
        for mode in ("BSP", "SSP", "ASP"):
            for workers in (1, 4):
                # BSP averages over its lanes: a clock of 4 lanes is one step on 4 batches. Batches of a quarter make
                # steps of as many examples.
                settings = [f"consistency.mode={mode}"]
                if mode == "BSP":
                    settings.append(f"train.batch_size={64 // workers}")
                report = self.run_job(ADULT, "--workers", workers, settings=settings)
                self.check_quality(report)
                reports[mode, workers] = report["test"]
        for metric in ("accuracy", "auc"):
            values = {key: test[metric] for key, test in reports.items()}
            self.assertLessEqual(max(values.values()) - min(values.values()), 0.002, values)

    def test_bsp_is_a_function_of_the_seed(self):
        models = []
        for i in range(2):
            model = self.folder / f"{i}.model"
            self.run_job(ADULT, "--workers", 3, "--model", model, settings=["consistency.mode=BSP", "train.epochs=2"])
            models.append(model.read_bytes())
        self.assertEqual(models[0], models[1])
        other = self.folder / "other.model"
        settings = ["consistency.mode=BSP", "train.epochs=2", "train.seed=2"]
        self.run_job(ADULT, "--workers", 3, "--model", other, settings=settings)
        self.assertNotEqual(models[0], other.read_bytes())


if __name__ == "__main__":
    harness.main()
