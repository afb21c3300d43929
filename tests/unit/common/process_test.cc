#include "common/runtime/process.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "common/base/strings.h"
#include "common/runtime/signals.h"

namespace sheaf {
namespace {

constexpr Duration kPatience = std::chrono::seconds(30);

std::string Shell(const std::string& script, ProcessSpec spec = {}) {
  const std::string log = testing::TempDir() + StrCat("sheaf-process-", getpid(), ".log");
  std::filesystem::remove(log);
  spec.argv = {"sh", "-c", script};
  spec.log_path = log;
  auto child = ChildProcess::Spawn(spec);
  EXPECT_TRUE(child) << child.error().message;
  if (!child) return "";
  EXPECT_TRUE((*child)->Wait(kPatience));
  std::ifstream file(log);
  std::string text(std::istreambuf_iterator<char>(file), {});
  std::filesystem::remove(log);
  return text;
}

TEST(ChildProcess, SaysHowItEnded) {
  auto child = ChildProcess::Spawn({.argv = {"sh", "-c", "exit 3"}});
  ASSERT_TRUE(child) << child.error().message;
  const auto exit = (*child)->Wait(kPatience);
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->code, 3);
  EXPECT_FALSE(exit->ok());
  EXPECT_EQ(exit->Text(), "exit code 3");
  EXPECT_EQ((*child)->Poll()->code, 3) << "asking again is no error";
}

TEST(ChildProcess, WritesOutputAndErrorsToItsLog) {
  EXPECT_EQ(Shell("echo out; echo err >&2"), "out\nerr\n");
}

TEST(ChildProcess, AddsToTheEnvironmentAndReplacesInIt) {
  setenv("SHEAF_TEST_KEPT", "kept", 1);
  setenv("SHEAF_TEST_REPLACED", "old", 1);
  ProcessSpec spec;
  spec.environment = {{"SHEAF_TEST_REPLACED", "new"}, {"SHEAF_TEST_ADDED", "added"}};
  EXPECT_EQ(Shell("echo $SHEAF_TEST_KEPT $SHEAF_TEST_REPLACED $SHEAF_TEST_ADDED", spec), "kept new added\n");
}

TEST(ChildProcess, StartsInItsFolder) {
  ProcessSpec spec;
  spec.working_directory = "/";
  EXPECT_EQ(Shell("pwd", spec), "/\n");
}

TEST(ChildProcess, SaysWhatIsMissing) {
  const auto spawn = [](ProcessSpec spec) { return ChildProcess::Spawn(spec).error(); };
  ProcessSpec spec;
  EXPECT_EQ(spawn(spec).code, ErrorCode::kInvalidArgument);
  spec.argv = {"/no/such/program"};
  EXPECT_EQ(spawn(spec).code, ErrorCode::kNotFound);
  EXPECT_NE(spawn(spec).message.find("/no/such/program"), std::string::npos);
  spec = {.argv = {"true"}, .working_directory = "/no/such/folder"};
  EXPECT_NE(spawn(spec).message.find("/no/such/folder"), std::string::npos);
  spec = {.argv = {"true"}, .log_path = "/no/such/folder/log"};
  EXPECT_NE(spawn(spec).message.find("/no/such/folder/log"), std::string::npos);
}

TEST(ChildProcess, StopsOnTerminationAlsoWhenOursIsBlocked) {
  const auto signals = SignalFd::Create();  // the child must not inherit the mask
  ASSERT_TRUE(signals);
  ProcessSpec spec;
  spec.argv = {"cat", "/dev/zero"};
  spec.log_path = "/dev/null";
  auto child = ChildProcess::Spawn(spec);
  ASSERT_TRUE(child) << child.error().message;
  EXPECT_FALSE((*child)->Poll());
  const ProcessExit exit = (*child)->Stop(kPatience);
  EXPECT_EQ(exit.signal, SIGTERM);
  EXPECT_NE(exit.Text().find("killed by signal 15"), std::string::npos);
}

TEST(ChildProcess, KillsWhatDoesNotStop) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  ProcessSpec spec;
  // Says when the trap is set; then ignores the signal.
  spec.argv = {"sh", "-c", StrCat("trap '' TERM; echo ready >&", ends[1], "; while :; do :; done")};
  auto child = ChildProcess::Spawn(spec);
  ASSERT_TRUE(child) << child.error().message;
  char byte;
  ASSERT_EQ(read(ends[0], &byte, 1), 1);
  EXPECT_EQ((*child)->Stop(Milliseconds(20)).signal, SIGKILL);
  close(ends[0]);
  close(ends[1]);
}

TEST(ChildProcess, ItsEndCanBeWatched) {
  ProcessSpec spec;
  spec.argv = {"cat"};
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  spec.argv = {"sh", "-c", StrCat("read line <&", ends[0])};
  auto child = ChildProcess::Spawn(spec);
  ASSERT_TRUE(child) << child.error().message;
  pollfd watched{(*child)->fd(), POLLIN, 0};
  EXPECT_EQ(poll(&watched, 1, 0), 0);
  ASSERT_EQ(write(ends[1], "\n", 1), 1);
  EXPECT_EQ(poll(&watched, 1, 30'000), 1);
  EXPECT_TRUE((*child)->Poll()->ok());
  close(ends[0]);
  close(ends[1]);
}

TEST(ChildProcess, DiesWithItsOwner) {
  pid_t pid = 0;
  {
    ProcessSpec spec;
    spec.argv = {"cat", "/dev/zero"};
    spec.log_path = "/dev/null";
    auto child = ChildProcess::Spawn(spec);
    ASSERT_TRUE(child) << child.error().message;
    pid = (*child)->pid();
    EXPECT_EQ(kill(pid, 0), 0);
  }
  EXPECT_EQ(kill(pid, 0), -1);
}

// A parent that is killed outright cannot stop its children: the system does.
TEST(ChildProcess, DiesWhenItsParentIsKilled) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t parent = fork();
  if (parent == 0) {
    close(ends[0]);
    ProcessSpec spec;
    spec.argv = {"sh", "-c", "while :; do sleep 1; done"};  // holds the pipe's end open while it lives
    const auto child = ChildProcess::Spawn(spec);
    if (write(ends[1], child ? "y" : "n", 1) != 1) _exit(1);
    for (;;) pause();
  }
  close(ends[1]);
  char started = 0;
  ASSERT_EQ(read(ends[0], &started, 1), 1);
  EXPECT_EQ(started, 'y');
  kill(parent, SIGKILL);
  int status;
  waitpid(parent, &status, 0);
  pollfd polled{ends[0], POLLIN, 0};
  ASSERT_EQ(poll(&polled, 1, 30'000), 1);
  EXPECT_EQ(read(ends[0], &started, 1), 0) << "the pipe ends when the last process that holds it does";
  close(ends[0]);
}

TEST(SpawnDetached, OutlivesWhoStartedItAndHasNoneOfItsInput) {
  const std::string base = testing::TempDir() + StrCat("sheaf-detached-", getpid());
  const std::string log = base + ".log", fifo = base + ".fifo", ended = base + ".ended";
  for (const std::string& path : {fifo, ended}) ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  const pid_t starter = fork();
  if (starter == 0) {
    const std::string script = StrCat("cat; cat ", fifo, "; echo > ", ended);
    const auto pid = SpawnDetached(
        {.argv = {"sh", "-c", script}, .environment = {}, .working_directory = "", .log_path = log});
    _exit(pid ? 0 : 1);
  }
  int status = 1;
  ASSERT_EQ(waitpid(starter, &status, 0), starter);
  EXPECT_EQ(status, 0);
  std::ofstream(fifo) << "still there" << std::endl;  // waits for it to listen
  std::string line;
  std::getline(std::ifstream(ended) >> std::ws, line);  // waits for it to have written
  std::ifstream said(log);
  std::getline(said, line);
  EXPECT_EQ(line, "still there");
  for (const std::string& path : {log, fifo, ended}) std::filesystem::remove(path);
}

TEST(ChildProcess, FindsTheFolderOfItsProgram) {
  const auto folder = ProgramFolder();
  ASSERT_TRUE(folder);
  EXPECT_TRUE(std::filesystem::exists(*folder + "/unit_common_test"));
}

}  // namespace
}  // namespace sheaf
