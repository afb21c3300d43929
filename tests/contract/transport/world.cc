#include "tests/contract/transport/world.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <deque>

#include "common/base/strings.h"
#include "common/net/zmq_transport.h"
#include "common/runtime/temp_folder.h"
#include "tests/sim/sim_network.h"

namespace sheaf {
namespace {

class SimWorld final : public World {
 public:
  class SimEnd final : public End {
   public:
    Transport& transport() override { return *transport_; }
    const std::string& address() const override { return address_; }
    std::deque<Delivery> inbox_;
    std::string address_;
    std::unique_ptr<sim::SimTransport> transport_;
  };

  std::unique_ptr<End> Start(PeerId self) override { return Make(self, ""); }
  std::unique_ptr<End> StartListening(PeerId self, const std::string& address) override {
    return Make(self, address.empty() ? FreshAddress() : address);
  }
  std::string FreshAddress() override { return StrCat("sim://", ++addresses_); }
  std::optional<Delivery> Receive(End& end, Duration timeout) override {
    auto& inbox = static_cast<SimEnd&>(end).inbox_;
    const TimePoint until = clock_.Now() + timeout;
    while (inbox.empty() && clock_.Now() < until) network_.RunFor(Milliseconds(1));
    if (inbox.empty()) return std::nullopt;
    Delivery first = std::move(inbox.front());
    inbox.pop_front();
    return first;
  }
  void Settle() override { network_.RunFor(std::chrono::seconds(1)); }

 private:
  std::unique_ptr<End> Make(PeerId self, const std::string& address) {
    auto end = std::make_unique<SimEnd>();
    end->address_ = address;
    end->transport_ = network_.Start(self, address, [inbox = &end->inbox_](PeerId from, Message message) {
      inbox->push_back({from, std::move(message)});
    });
    return end;
  }

  ManualClock clock_;
  Random random_{1};
  sim::SimNetwork network_{clock_, random_};
  int addresses_ = 0;
};

class ZmqWorld final : public World {
 public:
  class ZmqEnd final : public End {
   public:
    ZmqEnd(ZmqContext& context, PeerId self) : transport_(context, self) {}
    Transport& transport() override { return transport_; }
    const std::string& address() const override { return address_; }
    ZmqTransport transport_;
    std::string address_;
  };

  explicit ZmqWorld(std::string kind) : kind_(std::move(kind)), context_(std::make_unique<ZmqContext>()) {}

  std::unique_ptr<End> Start(PeerId self) override { return std::make_unique<ZmqEnd>(*context_, self); }
  std::unique_ptr<End> StartListening(PeerId self, const std::string& address) override {
    auto end = std::make_unique<ZmqEnd>(*context_, self);
    const auto wanted = !address.empty() ? address : kind_ == "tcp" ? "tcp://127.0.0.1:0" : FreshAddress();
    // ZeroMQ closes the sockets of an ended transport on its own thread: the address may be in use a moment longer.
    Result<std::string> bound = end->transport_.Bind(wanted);
    const SystemClock clock;
    const TimePoint until = clock.Now() + std::chrono::seconds(20);
    while (!bound && bound.error().code == ErrorCode::kAlreadyExists && clock.Now() < until) {
      end->transport_.Poll(Milliseconds(5), {});
      bound = end->transport_.Bind(wanted);
    }
    EXPECT_TRUE(bound) << bound.error().message;
    if (bound) end->address_ = *bound;
    return end;
  }
  std::string FreshAddress() override {
    if (kind_ == "ipc") return StrCat("ipc://", folder_.path(), "/", ++addresses_);
    // The folder's name is ours alone.
    if (kind_ == "abstract") return StrCat("ipc://@", folder_.path(), "/", ++addresses_);
    ZmqTransport probe(*context_, PeerId(999));
    return *probe.Bind("tcp://127.0.0.1:0");
  }
  std::optional<Delivery> Receive(End& end, Duration timeout) override {
    ZmqTransport& transport = static_cast<ZmqEnd&>(end).transport_;
    const SystemClock clock;
    const TimePoint until = clock.Now() + timeout;
    for (;;) {
      if (auto received = transport.Receive()) return Delivery{received->from, std::move(received->message)};
      const Duration left = until - clock.Now();
      if (left <= Duration::zero()) return std::nullopt;
      transport.Poll(left, {});
    }
  }
  void Settle() override {
    context_.reset();  // waits for all that lingers
    context_ = std::make_unique<ZmqContext>();
  }

 private:
  const std::string kind_;
  const TempFolder folder_;  // goes when all sockets are closed
  std::unique_ptr<ZmqContext> context_;
  int addresses_ = 0;
};

}  // namespace

std::unique_ptr<World> MakeWorld(const std::string& kind) {
  if (kind == "sim") return std::make_unique<SimWorld>();
  return std::make_unique<ZmqWorld>(kind);
}

}  // namespace sheaf
