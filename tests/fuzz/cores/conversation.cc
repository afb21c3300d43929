#include "tests/fuzz/cores/conversation.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/stubs/logging.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <cmath>

#include "common/base/check.h"
#include "common/base/partition.h"
#include "common/net/envelope.h"
#include "server/key_list_cache.h"
#include "tests/fuzz/fuzz_target.h"

namespace sheaf {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Reflection;
using ProtoMessage = google::protobuf::Message;

constexpr int kMostEvents = 64;
constexpr int kMostElements = 256;

class Silence final : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int, int, const std::string&) override {}
};

// All messages within a message, itself included.
void CollectMessages(ProtoMessage& message, std::vector<ProtoMessage*>& found) {
  found.push_back(&message);
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated()) {
      CollectMessages(*reflection.MutableMessage(&message, field), found);
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
      CollectMessages(*reflection.MutableRepeatedMessage(&message, field, i), found);
    }
  }
}

uint64_t GetNumber(const ProtoMessage& message, const FieldDescriptor* field, int index) {
  const Reflection& reflection = *message.GetReflection();
  const bool repeated = field->is_repeated();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_UINT32:
      return repeated ? reflection.GetRepeatedUInt32(message, field, index) : reflection.GetUInt32(message, field);
    case FieldDescriptor::CPPTYPE_UINT64:
      return repeated ? reflection.GetRepeatedUInt64(message, field, index) : reflection.GetUInt64(message, field);
    default:
      return 0;
  }
}

// A whole number: often one of the conversation's own, or next to what stood here before.
uint64_t DrawNumber(uint64_t before, const std::vector<uint64_t>& known, Random& random) {
  switch (random.Below(8)) {
    case 0:
      return before + 1;
    case 1:
      return before - 1;
    case 2:
      return random.Below(4);
    case 3:
      return ~uint64_t{0} - random.Below(2);
    case 4:
      return (uint64_t{1} << random.Below(64)) - random.Below(2);
    case 5:
      return random.Next();
    default:
      return known.empty() ? before : known[random.Below(known.size())];
  }
}

double DrawFraction(Random& random) {
  constexpr double kInteresting[] = {0, 1, -1, 0.5, 1e-38, 1e38, 1e308, HUGE_VAL, -HUGE_VAL, NAN};
  return kInteresting[random.Below(std::size(kInteresting))];
}

std::string DrawText(const std::string& before, Random& random) {
  switch (random.Below(4)) {
    case 0:
      return "";
    case 1:
      return std::string(random.Below(80), static_cast<char>(random.Next()));
    case 2:
      return before + static_cast<char>(random.Next());
    default:
      return before.substr(0, random.Below(before.size() + 1));
  }
}

// Sets a field, or the index-th element of a repeated one (appended if index is -1), to a drawn value.
class Setter {
 public:
  Setter(ProtoMessage& message, const FieldDescriptor* field, int index)
      : message_(message), field_(field), index_(index) {}

  void Draw(const std::vector<uint64_t>& known, Random& random) {
    const Reflection& reflection = *message_.GetReflection();
    const bool exists = !field_->is_repeated() || index_ >= 0;
    const uint64_t before = exists ? GetNumber(message_, field_, index_) : 0;
    switch (field_->cpp_type()) {
      case FieldDescriptor::CPPTYPE_UINT32:
        return Put(static_cast<uint32_t>(DrawNumber(before, known, random)), &Reflection::SetUInt32,
                   &Reflection::SetRepeatedUInt32, &Reflection::AddUInt32);
      case FieldDescriptor::CPPTYPE_UINT64:
        return Put(DrawNumber(before, known, random), &Reflection::SetUInt64, &Reflection::SetRepeatedUInt64,
                   &Reflection::AddUInt64);
      case FieldDescriptor::CPPTYPE_DOUBLE:
        return Put(DrawFraction(random), &Reflection::SetDouble, &Reflection::SetRepeatedDouble,
                   &Reflection::AddDouble);
      case FieldDescriptor::CPPTYPE_FLOAT:
        return Put(static_cast<float>(DrawFraction(random)), &Reflection::SetFloat, &Reflection::SetRepeatedFloat,
                   &Reflection::AddFloat);
      case FieldDescriptor::CPPTYPE_BOOL:
        return Put(random.Chance(0.5), &Reflection::SetBool, &Reflection::SetRepeatedBool, &Reflection::AddBool);
      case FieldDescriptor::CPPTYPE_ENUM: {
        const auto* values = field_->enum_type();
        const auto* value = values->value(static_cast<int>(random.Below(static_cast<uint64_t>(values->value_count()))));
        return Put(value, &Reflection::SetEnum, &Reflection::SetRepeatedEnum, &Reflection::AddEnum);
      }
      case FieldDescriptor::CPPTYPE_STRING: {
        std::string text;
        if (exists) {
          text = field_->is_repeated() ? reflection.GetRepeatedString(message_, field_, index_)
                                       : reflection.GetString(message_, field_);
        }
        text = DrawText(text, random);
        if (!field_->is_repeated()) return reflection.SetString(&message_, field_, text);
        return index_ < 0 ? reflection.AddString(&message_, field_, text)
                          : reflection.SetRepeatedString(&message_, field_, index_, text);
      }
      case FieldDescriptor::CPPTYPE_MESSAGE:
        if (!field_->is_repeated()) {
          reflection.MutableMessage(&message_, field_);
        } else if (index_ < 0) {
          reflection.AddMessage(&message_, field_);
        }
        return;
      default:
        return;  // our protos have no others
    }
  }

 private:
  template <typename Value, typename Set, typename SetRepeated, typename Add>
  void Put(Value value, Set set, SetRepeated set_repeated, Add add) {
    const Reflection& reflection = *message_.GetReflection();
    if (!field_->is_repeated()) {
      (reflection.*set)(&message_, field_, value);
    } else if (index_ < 0) {
      (reflection.*add)(&message_, field_, value);
    } else {
      (reflection.*set_repeated)(&message_, field_, index_, value);
    }
  }

  ProtoMessage& message_;
  const FieldDescriptor* field_;
  int index_;
};

void MutateRepeated(ProtoMessage& message, const FieldDescriptor* field, const std::vector<uint64_t>& known,
                    Random& random) {
  const Reflection& reflection = *message.GetReflection();
  const int size = reflection.FieldSize(message, field);
  const auto any = [&] { return static_cast<int>(random.Below(static_cast<uint64_t>(size))); };
  const bool is_message = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
  switch (size == 0 ? 0 : random.Below(5)) {
    case 0:
      if (size < kMostElements) Setter(message, field, -1).Draw(known, random);
      return;
    case 1:
      reflection.SwapElements(&message, field, any(), size - 1);
      return reflection.RemoveLast(&message, field);
    case 2:
      return reflection.SwapElements(&message, field, any(), any());
    case 3:
      if (is_message && size < kMostElements) {  // the same again
        const int from = any();
        ProtoMessage* copy = reflection.AddMessage(&message, field);
        copy->CopyFrom(reflection.GetRepeatedMessage(message, field, from));
        return;
      }
      [[fallthrough]];
    default:
      return Setter(message, field, any()).Draw(known, random);
  }
}

void MutateOnce(pb::Conversation& conversation, Random& random) {
  std::vector<ProtoMessage*> messages;
  CollectMessages(conversation, messages);
  std::vector<uint64_t> known;
  std::vector<const FieldDescriptor*> fields;
  for (const ProtoMessage* each : messages) {
    each->GetReflection()->ListFields(*each, &fields);
    for (const FieldDescriptor* field : fields) {
      const int count = field->is_repeated() ? each->GetReflection()->FieldSize(*each, field) : 1;
      for (int i = 0; i < std::min(count, 8); ++i) known.push_back(GetNumber(*each, field, i));
    }
  }
  ProtoMessage& message = random.Chance(0.2) ? conversation : *messages[random.Below(messages.size())];
  const auto& descriptor = *message.GetDescriptor();
  if (descriptor.field_count() == 0) return;
  // Half the time a field that is there: most of a large message's are not.
  message.GetReflection()->ListFields(message, &fields);
  const FieldDescriptor* field =
      !fields.empty() && random.Chance(0.5)
          ? fields[random.Below(fields.size())]
          : descriptor.field(static_cast<int>(random.Below(static_cast<uint64_t>(descriptor.field_count()))));
  if (field->is_repeated()) return MutateRepeated(message, field, known, random);
  if (random.Chance(0.1)) return message.GetReflection()->ClearField(&message, field);
  Setter(message, field, -1).Draw(known, random);
}

}  // namespace

std::optional<pb::Conversation> ParseConversation(const uint8_t* data, size_t size) {
  // Protobuf would print a line for every text that is not UTF-8.
  [[maybe_unused]] static auto* const quiet = google::protobuf::SetLogHandler(nullptr);
  Silence silence;
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&silence);
  parser.SetRecursionLimit(16);
  pb::Conversation conversation;
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (!parser.ParseFromString(text, &conversation)) return std::nullopt;
  while (conversation.event_size() > kMostEvents) conversation.mutable_event()->RemoveLast();
  return conversation;
}

void FuzzMutate(std::string& input, Random& random) {
  auto conversation = ParseConversation(reinterpret_cast<const uint8_t*>(input.data()), input.size());
  if (!conversation) conversation.emplace();
  for (uint64_t i = random.Below(4) + 1; i > 0; --i) MutateOnce(*conversation, random);
  input.clear();
  google::protobuf::TextFormat::PrintToString(*conversation, &input);
}

Message MessageOf(const pb::Event& event) {
  Message message;
  message.header = event.header();
  std::vector<uint64_t> keys(event.key().begin(), event.key().end());
  if (event.sign()) {
    auto* blocks = message.header.has_push()   ? message.header.mutable_push()->mutable_block()
                   : message.header.has_pull() ? message.header.mutable_pull()->mutable_block()
                                               : nullptr;
    bool any_inlined = blocks == nullptr;
    size_t begin = 0;
    for (int b = 0; blocks != nullptr && b < blocks->size(); ++b) {
      pb::Block& block = *blocks->Mutable(b);
      size_t count = 0;
      for (const uint32_t of_partition : block.key_count()) count = std::min(count + of_partition, keys.size() - begin);
      const KeySignature signature = SignatureOf(std::as_bytes(std::span(keys).subspan(begin, count)));
      block.mutable_keys()->set_signature_high(signature.high);
      block.mutable_keys()->set_signature_low(signature.low);
      any_inlined |= block.keys().inlined();
      begin += count;
    }
    if (!any_inlined) keys.clear();
  }
  message.keys = Buffer::FromVector(std::move(keys));
  message.values = event.value().empty()
                       ? Buffer::CopyOf(std::as_bytes(std::span(event.raw_values())))
                       : Buffer::FromVector(std::vector<float>(event.value().begin(), event.value().end()));
  return message;
}

Duration PauseBefore(const pb::Event& event) { return Milliseconds(std::min(event.after_ms(), 60'000U)); }

ShardOptions SmallShard() { return {.request_budget_bytes = 16 << 10, .key_list_budget_bytes = 2 << 10}; }

pb::ClusterConfig SmallCluster() {
  constexpr uint64_t kForever = ~uint64_t{0};
  constexpr uint64_t kJob = 5;
  pb::ClusterConfig config;
  config.set_generation(10);
  config.set_partition_count(8);
  for (const uint32_t node : {1U, 2U}) {
    pb::ServerInfo& server = *config.add_server();
    server.set_node(node);
    server.set_name("server-" + std::to_string(node));
    for (uint32_t shard = 0; shard < (node == 1 ? 2U : 1U); ++shard) server.add_shard()->set_peer(node * 100 + shard);
  }
  for (uint32_t p = 0; p < 8; ++p) {
    pb::PartitionConfig& partition = *config.add_partition();
    partition.set_epoch(3);
    partition.set_primary(p < 5 ? 1 : 2);
  }
  for (const auto& [id, dim] : {std::pair(1U, 1U), {2U, 1U}, {3U, 2U}, {4U, 3U}}) {
    pb::TableSpec& table = *config.add_table();
    table.set_id(id);
    table.set_job(kJob);
    table.set_dim(dim);
    if (id == 3) table.set_update(pb::TableSpec::SUM);
    if (id == 4) table.set_init_stddev(0.1);
    table.mutable_optimizer()->set_kind(id == 4 ? pb::OptimizerSpec::ADAGRAD : pb::OptimizerSpec::SGD);
  }
  for (const auto mode : {pb::ConsistencySpec::SSP, pb::ConsistencySpec::BSP, pb::ConsistencySpec::ASP}) {
    pb::Roster& roster = *config.add_roster();
    roster.set_job(kJob);
    roster.set_pass(static_cast<uint32_t>(config.roster_size() - 1));
    roster.set_mode(mode);
    roster.set_staleness(1);
    for (uint32_t lane = 0; lane < (mode == pb::ConsistencySpec::ASP ? 1U : 2U); ++lane) {
      pb::Lane& added = *roster.add_lane();
      added.set_lane(lane);
      added.set_start_clock(0);
      added.set_end_clock(mode == pb::ConsistencySpec::BSP ? 4 : kForever);
    }
  }
  return config;
}

void CheckSendable(const Outbox& out) {
  for (const Outbox::Item& item : const_cast<Outbox&>(out).items()) {
    const auto frames = EncodeMessage(item.message);
    SHEAF_CHECK(frames.has_value(), "a core sent what no transport takes: ", frames.error().message);
  }
}

Correspondence::Correspondence() {
  for (const uint64_t peer : {100, 101, 200}) {
    auto& shard = shards_[PeerId(peer)] = std::make_unique<ShardCore>(PeerId(peer), SmallShard());
    Outbox out;
    SHEAF_CHECK(shard->OnConfig(SmallCluster(), {}, out).has_value());
  }
}

void Correspondence::Take(Outbox& out) {
  CheckSendable(out);
  for (Outbox::Item& item : out.items()) sent_.push_back(std::move(item));
  out.clear();
}

const Outbox::Item* Correspondence::FromLast(uint32_t n) const {
  return sent_.empty() ? nullptr : &sent_[sent_.size() - 1 - n % sent_.size()];
}

std::vector<Message> Correspondence::Deliver(const Outbox::Item& item, PeerId self, TimePoint now) {
  std::vector<Message> answers;
  const auto shard = shards_.find(item.to);
  if (shard == shards_.end()) return answers;
  Outbox out;
  shard->second->OnMessage(self, item.message, now, out);
  CheckSendable(out);
  for (Outbox::Item& answer : out.items()) answers.push_back(std::move(answer.message));
  return answers;
}

}  // namespace sheaf

// libFuzzer's own mutations would break the text nearly every time.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned int seed) {
  std::string input(reinterpret_cast<const char*>(data), size);
  sheaf::Random random(seed);
  sheaf::FuzzMutate(input, random);
  if (input.size() > max_size) return size;
  std::copy(input.begin(), input.end(), data);
  return input.size();
}
