#!/usr/bin/env python3
"""Every rule of scripts/tidy.py finds what is planted for it, and nothing in what looks like it."""
import importlib.util
import pathlib
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SPEC = importlib.util.spec_from_file_location("tidy", ROOT / "scripts" / "tidy.py")
tidy = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tidy)

# Planted line, in which file, what is said of it.
PLANTED = [
    ("#include <zmq.hpp>", "server/a.cc", "zmq headers"),
    ("#include <rocksdb/db.h>", "server/a.cc", "rocksdb headers"),
    ("#include <curl/curl.h>", "common/net/a.cc", "curl headers"),
    ("#include <rocksdb/db.h>", "scheduler/a.cc", "rocksdb headers"),
    ("std::thread t;", "worker/a.cc", "threads are started"),
    ("auto f = std::async(g);", "client/a.cc", "threads are started"),
    ("std::this_thread::sleep_for(d);", "tests/unit/a.cc", "no sleep"),
    ("usleep(3);", "cli/a.cc", "no sleep"),
    ("  sleep (1);", "server/a.cc", "no sleep"),
    ("std::chrono::system_clock::now();", "cli/a.cc", "no wall clock"),
    ("int x = rand();", "tests/a.cc", "no rand"),
    ("std::srand(1);", "compute/a.cc", "no rand"),
    ("std::random_device device;", "worker/a.cc", "from a Random"),
    ("std::mt19937 engine;", "tests/a.cc", "from a Random"),
    ("std::cout << 1;", "compute/a.cc", "does not print"),
    ("std::printf(\"x\");", "server/a.cc", "does not print"),
    ("strcpy(a, b);", "cli/a.cc", "unbounded"),
    ("std::sprintf(a, \"%d\", 1);", "cli/a.cc", "unbounded"),
    ("gets(line);", "cli/a.cc", "unbounded"),
    ("int n = atoi(text);", "cli/a.cc", "unbounded"),
    ("int n = system(command);", "cli/a.cc", "no shell"),
    ("FILE* f = popen(command, mode);", "cli/a.cc", "no shell"),
    ("assert(x);", "server/a.cc", "no assert"),
    ("std::abort();", "server/a.cc", "only main ends"),
    ("exit(1);", "scheduler/main.cc", "only main ends"),
    ("void* p = malloc(3);", "compute/a.cc", "no malloc"),
    ("std::regex r;", "cli/a.cc", "no std::regex"),
    ("delete p;", "server/a.cc", "no delete"),
    ("delete[] p;", "server/a.cc", "no delete"),
    ("auto* p = new Thing(3);", "server/a.cc", "no naked new"),
    ("using namespace std;", "common/a.h", "no using namespace"),
    ("#include <glog/logging.h>", "server/a.h", "only in .cc"),
    ("#include \"server/shard_core.h\"", "client/a.cc", "must not include server"),
    ("#include \"client/ps_client.h\"", "server/a.cc", "must not include client"),
    ("#include \"worker/worker_core.h\"", "cli/a.cc", "must not include worker"),
    ("#include \"tests/sim/sim_job.h\"", "common/a.cc", "must not include tests"),
    ("} catch (...) {", "server/a.cc", "catch (...) needs"),
    ("int a;  // " + "TO" + "DO: b", "server/a.cc", "unfinished"),
    ("// " + "x" * 118, "server/a.cc", "bytes: a line"),
    ("// " + "é" * 59, "server/a.cc", "bytes: a line"),
    ("int a; ", "server/a.cc", "blanks at the end"),
    ("\tint a;", "server/a.cc", "a tab"),
]

INNOCENT = [
    ("// rand(), assert(x) and delete are only spoken of; so is std::thread", "server/a.cc"),
    ("const char* text = \"exit(1) system(x) new Thing();\";", "server/a.cc"),
    ("Thing(const Thing&) = delete;", "server/a.cc"),
    ("static_assert(sizeof(int) == 4);", "server/a.cc"),
    ("auto p = std::unique_ptr<Thing>(new Thing(3));", "server/a.cc"),
    ("std::unique_ptr<Thing> p(new Thing(3));", "server/a.cc"),
    ("} catch (...) {  // a plugin may throw anything", "server/a.cc"),
    ("std::snprintf(a, 3, \"%d\", 1);", "common/a.cc"),
    ("std::fprintf(stderr, \"x\");", "common/a.cc"),
    ("process.exit(1); operand(3); random.Below(2);", "server/a.cc"),
    ("std::printf(\"x\");", "cli/a.cc"),
    ("std::thread t;", "common/runtime/a.cc"),
    ("#include \"worker/data/row_file.h\"", "cli/a.cc"),
    ("#include \"client/ps_client.h\"", "worker/a.cc"),
]


def findings(line, path):
    head = "// What it is for.\n" + ("#pragma once\n" if path.endswith(".h") else "") + "namespace sheaf {\n"
    return [why for _, why in tidy.findings(path, f"{head}{line}\n", ROOT)]


class Rules(unittest.TestCase):
    def test_find_what_is_planted(self):
        for line, path, why in PLANTED:
            with self.subTest(line=line, path=path):
                self.assertTrue(any(why in found for found in findings(line, path)), findings(line, path))

    def test_leave_alone_what_looks_like_it(self):
        for line, path in INNOCENT:
            with self.subTest(line=line, path=path):
                self.assertEqual(findings(line, path), [])

    def test_every_banned_call_has_something_planted(self):
        for pattern, _, why in tidy.BANNED:
            with self.subTest(rule=why):
                self.assertTrue(any(pattern.search(line) for line, _, _ in PLANTED))

    def test_find_files_of_a_wrong_form(self):
        def found(path, text):
            return "; ".join(why for _, why in tidy.findings(path, text, ROOT))
        self.assertIn("a header begins", found("common/a.h", "#pragma once\n"))
        self.assertIn("no #pragma once", found("common/a.h", "// A.\n"))
        self.assertIn("begin with", found("common/a.cc", "#include <vector>\n"))
        self.assertIn("one line end", found("common/a.cc", "// A."))
        self.assertIn("one line end", found("common/a.cc", "// A.\n\n"))
        self.assertIn("server/staging.h\" first", found("server/staging.cc", "#include \"server/budget.h\"\n"))
        self.assertEqual("", found("server/staging.cc", "#include \"server/staging.h\"\n"))

    def test_find_names_that_two_sources_of_a_folder_have_for_themselves(self):
        own = tidy.OwnNames()
        def found(path, line):
            return [why for _, why in own.findings(path, f"namespace {{\n\n{line}\n\n}}  // namespace\n")]
        for line in ("constexpr int kMost = 3;", "const NodeId kA(1), kB(2);", "struct Part {\n};",
                     "size_t Rounded(size_t bytes) { return bytes; }", "enum class Kind { kOne };"):
            with self.subTest(line=line):
                self.assertEqual(found("server/a.cc", line), [])
                self.assertEqual(found("scheduler/a.cc", line), [])
                self.assertIn("is also server/a.cc's", found("server/b.cc", line)[0])
        self.assertEqual(found("server/c.cc", "size_t Rounded(double number) { return 1; }"), [], "an overload")
        self.assertEqual(found("server/d.cc", "// constexpr int kMost = 3;\nvoid F() {\n  const int kMost = 1;\n}"), [])

    def test_find_dead_links(self):
        def found(text):
            return [why for _, why in tidy.findings("docs/a.md", text, ROOT)]
        self.assertIn("no such file", found("[a](nowhere.md)")[0])
        self.assertIn("no such heading", found("[a](protocol.md#nothing-of-it)")[0])
        self.assertIn("no such file", found("see `server/nothing.cc`")[0])
        self.assertEqual(found("[a](protocol.md#leases-and-passes) [b](https://example.org) `server/staging.cc`"), [])
        self.assertEqual(found("```\n[a](nowhere.md)\n```"), [])

    def test_read_all_files_of_a_tree_without_git(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name in ("server/a.cc", "build/b.cc", "docs/c.md", "d.txt"):
                (root / name).parent.mkdir(exist_ok=True)
                (root / name).write_text("// A.\n")
            self.assertEqual(tidy.files_of(root), ["docs/c.md", "server/a.cc"])


if __name__ == "__main__":
    unittest.main()
