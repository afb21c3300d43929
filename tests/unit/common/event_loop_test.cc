#include "common/runtime/event_loop.h"

#include <gtest/gtest.h>

#include "common/runtime/mailbox.h"
#include "common/runtime/signals.h"
#include "common/runtime/thread.h"

#include <csignal>

namespace sheaf {
namespace {

constexpr PeerId kLoopPeer{10};
constexpr PeerId kOtherPeer{20};

Message Numbered(uint64_t number) {
  Message message;
  message.header.set_request(number);
  return message;
}

// Counts, and lets a test say what is to be done.
class Recorder : public EventLoop::Handler {
 public:
  void OnMessage(PeerId from, Message message) override {
    ++messages;
    if (on_message) on_message(from, message);
  }
  void OnTick(TimePoint now) override {
    ++ticks;
    if (on_tick) on_tick(now);
  }
  void OnTurnEnd(TimePoint) override {
    ++turns;
    if (on_turn) on_turn();
  }
  std::function<void()> on_turn;
  std::function<void(PeerId, Message&)> on_message;
  std::function<void(TimePoint)> on_tick;
  int messages = 0;
  int ticks = 0;
  int turns = 0;
};

class EventLoopTest : public testing::Test {
 protected:
  SystemClock clock_;
  ZmqContext context_;
  ZmqTransport transport_{context_, kLoopPeer};
  EventLoop loop_{transport_, clock_};
  Recorder recorder_;
};

TEST_F(EventLoopTest, TicksRegularlyWithoutMessages) {
  const TimePoint start = clock_.Now();
  recorder_.on_tick = [&](TimePoint now) {
    EXPECT_EQ(now, loop_.Now());
    if (recorder_.ticks == 4) loop_.Stop();
  };
  loop_.Run(recorder_);
  EXPECT_EQ(recorder_.ticks, 4);
  EXPECT_GE(clock_.Now() - start, Milliseconds(29));
}

TEST_F(EventLoopTest, TicksAtOnceWhenAsked) {
  EventLoop loop(transport_, clock_, {.tick_every = std::chrono::hours(1)});
  recorder_.on_tick = [&](TimePoint) {
    if (recorder_.ticks == 100) return loop.Stop();
    loop.RequestTick();
  };
  loop.Run(recorder_);
  EXPECT_EQ(recorder_.ticks, 100);
}

TEST_F(EventLoopTest, TurnsWithoutWaitingWhenAsked) {
  EventLoop loop(transport_, clock_, {.tick_every = std::chrono::hours(1)});
  recorder_.on_turn = [&] {
    if (recorder_.turns == 100) return loop.Stop();
    loop.RequestTurn();
  };
  loop.Run(recorder_);
  EXPECT_EQ(recorder_.turns, 100);
  EXPECT_EQ(recorder_.ticks, 1) << "the first; a turn is no tick";
}

TEST_F(EventLoopTest, AnswersMessagesOfAPeerOnAnotherThread) {
  constexpr uint64_t kRounds = 2000;
  const std::string address = *transport_.Bind("tcp://127.0.0.1:0");
  // An hour between ticks: a lost wake-up would show as a test that hangs, not as a slow one.
  EventLoop server_loop(transport_, clock_, {.tick_every = std::chrono::hours(1)});
  recorder_.on_message = [&](PeerId from, Message& message) { ASSERT_TRUE(transport_.Send(from, std::move(message))); };
  Thread server("server", [&] { server_loop.Run(recorder_); });

  ZmqTransport client_transport(context_, kOtherPeer);
  EventLoop client_loop(client_transport, clock_, {.tick_every = std::chrono::hours(1)});
  ASSERT_TRUE(client_transport.Connect(kLoopPeer, address));
  Recorder client;
  client.on_message = [&](PeerId from, Message& message) {
    EXPECT_EQ(from, kLoopPeer);
    const uint64_t number = message.header.request();
    if (number == kRounds) return client_loop.Stop();
    ASSERT_TRUE(client_transport.Send(kLoopPeer, Numbered(number + 1)));
  };
  ASSERT_TRUE(client_transport.Send(kLoopPeer, Numbered(1)));
  client_loop.Run(client);
  server_loop.Stop();
  server.Join();
  EXPECT_EQ(client.messages, static_cast<int>(kRounds));
  EXPECT_EQ(recorder_.messages, static_cast<int>(kRounds));
}

// Each message is passed on to another socket: its sending may swallow the wake-up of messages that wait there.
TEST_F(EventLoopTest, LosesNoWakeUpWhenSocketsAreCrossed) {
  constexpr uint64_t kRounds = 500;
  constexpr uint64_t kServers = 4;
  std::vector<std::unique_ptr<ZmqTransport>> transports;
  std::vector<std::unique_ptr<EventLoop>> loops;
  std::vector<std::unique_ptr<Recorder>> recorders;
  std::vector<Thread> threads;
  EventLoop client_loop(transport_, clock_, {.tick_every = std::chrono::hours(1)});
  for (uint64_t i = 0; i < kServers; ++i) {
    transports.push_back(std::make_unique<ZmqTransport>(context_, PeerId(100 + i)));
    ZmqTransport& transport = *transports.back();
    const std::string address = *transport.Bind("tcp://127.0.0.1:0");
    loops.push_back(
        std::make_unique<EventLoop>(transport, clock_, EventLoopOptions{.tick_every = std::chrono::hours(1)}));
    recorders.push_back(std::make_unique<Recorder>());
    recorders.back()->on_message = [&transport](PeerId from, Message& message) {
      ASSERT_TRUE(transport.Send(from, std::move(message)));
    };
    ASSERT_TRUE(transport_.Connect(PeerId(100 + i), address));
  }
  for (uint64_t i = 0; i < kServers; ++i) {
    threads.emplace_back("server", [&, i] { loops[i]->Run(*recorders[i]); });
  }
  recorder_.on_message = [&](PeerId from, Message& message) {
    const uint64_t number = message.header.request();
    if (recorder_.messages == static_cast<int>(kRounds * kServers)) return client_loop.Stop();
    if (number == kRounds) return;
    ASSERT_TRUE(transport_.Send(PeerId(100 + (from.value - 100 + 1) % kServers), Numbered(number + 1)));
  };
  for (uint64_t i = 0; i < kServers; ++i) ASSERT_TRUE(transport_.Send(PeerId(100 + i), Numbered(1)));
  client_loop.Run(recorder_);
  for (auto& loop : loops) loop->Stop();
  for (Thread& thread : threads) thread.Join();
  EXPECT_EQ(recorder_.messages, static_cast<int>(kRounds * kServers));
}

TEST_F(EventLoopTest, ServesAMailboxOfAnotherThread) {
  Mailbox<int> mailbox(4);
  int sum = 0;
  loop_.Watch(mailbox.fd(), [&] {
    while (const auto item = mailbox.TryTake()) sum += *item;
    if (mailbox.closed()) {
      loop_.Unwatch(mailbox.fd());
      loop_.Stop();
    }
  });
  Thread writer("writer", [&] {
    for (int i = 1; i <= 1000; ++i) {
      while (!mailbox.TryPut(i)) std::this_thread::yield();
    }
    mailbox.Close();
  });
  loop_.Run(recorder_);
  EXPECT_EQ(sum, 500'500);
}

TEST_F(EventLoopTest, ServesDescriptorsAndTicksUnderAFloodOfMessages) {
  const std::string address = *transport_.Bind("tcp://127.0.0.1:0");
  ZmqTransport client(context_, kOtherPeer);
  ASSERT_TRUE(client.Connect(kLoopPeer, address));
  for (uint64_t i = 0; i < 1000; ++i) ASSERT_TRUE(client.Send(kLoopPeer, Numbered(i)));
  EventLoop loop(transport_, clock_, {.tick_every = Duration::zero(), .max_messages_a_turn = 10});
  Mailbox<int> mailbox(1);
  ASSERT_TRUE(mailbox.TryPut(1));
  bool served = false;
  loop.Watch(mailbox.fd(), [&] { served = mailbox.TryTake().has_value(); });
  recorder_.on_message = [&](PeerId, Message&) {
    if (recorder_.messages == 1000) loop.Stop();
  };
  loop.Run(recorder_);
  EXPECT_TRUE(served);
  EXPECT_GE(recorder_.ticks, 99);
  EXPECT_GE(recorder_.turns, 100);
}

TEST_F(EventLoopTest, LetsAHandlerUnwatchAnother) {
  Mailbox<int> one(1), two(1);
  int calls = 0;
  const auto only_once = [&] {
    ++calls;
    loop_.Unwatch(one.fd());
    loop_.Unwatch(two.fd());
    loop_.Stop();
  };
  loop_.Watch(one.fd(), only_once);
  loop_.Watch(two.fd(), only_once);
  ASSERT_TRUE(one.TryPut(1));
  ASSERT_TRUE(two.TryPut(1));
  loop_.Run(recorder_);
  EXPECT_EQ(calls, 1);
}

TEST_F(EventLoopTest, AStopBeforeRunEndsItAtOnceAndItCanRunAgain) {
  loop_.Stop();
  loop_.Run(recorder_);
  EXPECT_EQ(recorder_.turns, 0);
  recorder_.on_tick = [&](TimePoint) { loop_.Stop(); };
  loop_.Run(recorder_);
  EXPECT_EQ(recorder_.ticks, 1);
}

TEST_F(EventLoopTest, TurnsATerminationSignalIntoAnEvent) {
  auto signals = SignalFd::Create();
  ASSERT_TRUE(signals) << signals.error().message;
  EXPECT_FALSE((*signals)->Take());
  std::optional<int> got;
  loop_.Watch((*signals)->fd(), [&] {
    got = (*signals)->Take();
    loop_.Stop();
  });
  kill(getpid(), SIGTERM);
  loop_.Run(recorder_);
  EXPECT_EQ(got, SIGTERM);
}

}  // namespace
}  // namespace sheaf
