"""Gradients that are no numbers, or too large: one line says whose, which, and what to do; nothing of it is kept."""

import json
import re

import harness

ROWS = 2000


class Poison(harness.SheafTest):
    def make_job(self, *lines):
        """Rows of one feature each, of which two in the middle have a value whose gradient overflows."""
        rows = [f"{i % 2} {1 + i % 50}:1" for i in range(ROWS)]
        for at in (900, 901):
            rows[at] = "1 7:3e38"
        self.write("data/rows.svm", "\n".join(rows) + "\n")
        return self.job('name: "poison" data { format: LIBSVM train: "rows.svm" } model { loss: SQUARED }\n'
                        'optimizer { kind: SGD learning_rate: 0.01 ' + " ".join(lines) + ' }\n'
                        'train { epochs: 2 batch_size: 10 shuffle: NONE }\n')

    def run_it(self, job, *settings):
        options = [word for setting in settings for word in ("--set", setting)]
        report = self.folder / "report.json"
        outcome = self.sheaf("run", job, "--data", self.folder / "data", "--report", report, "--log_dir",
                             self.folder / "logs", *options)
        return outcome, json.loads(report.read_text())

    def test_fails_the_job_with_worker_batch_rows_and_what_to_do(self):
        outcome, _ = self.run_it(self.make_job())
        self.assertNotEqual(outcome.code, 0, outcome)
        said = re.search(r"worker-\d: batch (\d+) of range (\d+) \(rows (\d+) to (\d+) of rows\.svm\): the gradient has"
                         r" NaN or infinite values: .*learning_rate", outcome.err)
        self.assertTrue(said, outcome)
        batch, _, first, last = map(int, said.groups())
        self.assertLessEqual(first, 901)
        self.assertGreaterEqual(last, 901)
        self.assertEqual(first + batch * 10, 901)

    def test_is_left_out_and_counted_where_the_job_says_so(self):
        outcome, report = self.run_it(self.make_job(), "train.on_bad_gradient=SKIP")
        self.assertEqual(outcome.code, 0, outcome)
        self.assertEqual(report["refused_batches"], 2, "one an epoch")
        self.assertEqual(report["examples_total"], 2 * ROWS)
        self.assertIn("2 batches left out", outcome.out + outcome.err)
        self.assertTrue(all(0 <= loss < 10 for loss in report["train_loss"]), report["train_loss"])

    def test_is_also_what_is_over_the_jobs_limit(self):
        job = self.make_job("max_gradient_norm: 1000")
        (self.folder / "data" / "rows.svm").write_text(
            "".join("1 7:1e6\n" if at == 900 else f"{at % 2} {1 + at % 50}:1\n" for at in range(ROWS)))
        outcome, _ = self.run_it(job)
        self.assertIn("over optimizer.max_gradient_norm: 1000", outcome.err, outcome)
        outcome, report = self.run_it(job, "train.on_bad_gradient=SKIP")
        self.assertEqual(outcome.code, 0, outcome)
        self.assertEqual(report["refused_batches"], 2)

    def test_of_every_worker_ends_the_job(self):
        self.write("data/rows.svm", "1 7:3e38\n" * ROWS)
        job = self.make_job()
        (self.folder / "data" / "rows.svm").write_text("1 7:3e38\n" * ROWS)
        outcome, report = self.run_it(job, "train.on_bad_gradient=SKIP", "train.quarantine_after=5")
        self.assertNotEqual(outcome.code, 0, outcome)
        self.assertIn("of every worker the last 5 gradients or more were refused", outcome.err)
        self.assertGreaterEqual(report["refused_batches"], 0)


if __name__ == "__main__":
    harness.main()
