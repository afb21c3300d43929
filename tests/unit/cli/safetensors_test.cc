#include "cli/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "cli/model_file.h"
#include "common/base/random.h"

namespace sheaf::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ModelFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "sheaf-model-" + std::to_string(getpid());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string Path(const std::string& name) const { return folder_ + "/" + name; }
  size_t FileCount() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder_), {}));
  }

  // A file with this header and so many bytes of data.
  std::string Forge(const std::string& header, size_t data_bytes) {
    const uint64_t length = header.size();
    std::string bytes(reinterpret_cast<const char*>(&length), sizeof(length));
    return Raw(bytes + header + std::string(data_bytes, 'x'));
  }
  std::string Raw(const std::string& bytes) {
    std::ofstream(Path("forged"), std::ios::binary) << bytes;
    const auto opened = SafetensorsReader::Open(Path("forged"));
    return opened ? "no error" : opened.error().message;
  }

  std::string folder_;
};

std::string Bytes(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

StoredModel ExampleModel() {
  StoredModel model;
  model.spec.set_name("x");
  model.spec.mutable_data()->set_format(pb::DataSpec::LIBSVM);
  model.spec.mutable_data()->add_train("a");
  model.weights = StoredRows(2, {5, 1ull << 60, ~0ull}, {1, 2, 3, 4, 5, 6});
  model.bias = {7, 8};
  model.statistics = StoredRows(1, {5, 6}, {10, 11});
  return model;
}

TEST_F(ModelFiles, ReadsBackWhatWasWritten) {
  ASSERT_TRUE(SaveModel(Path("m"), ExampleModel()));
  const auto model = LoadModel(Path("m"));
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ(model->spec.name(), "x");
  EXPECT_THAT(model->bias, ElementsAre(7, 8));
  std::vector<float> rows(8);
  model->weights.Lookup(std::vector<HashedKey>{5, 6, 1ull << 60, ~0ull}, rows);
  EXPECT_THAT(rows, ElementsAre(1, 2, 0, 0, 3, 4, 5, 6));
  EXPECT_THAT(model->statistics.rows(), ElementsAre(10, 11));
}

TEST_F(ModelFiles, StoresPlainKeys) {
  StoredModel model = ExampleModel();
  model.weights = StoredRows(1, {MixKey(42)}, {1});
  ASSERT_TRUE(SaveModel(Path("m"), model));
  auto file = SafetensorsReader::Open(Path("m"));
  ASSERT_TRUE(file);
  EXPECT_THAT(*file->ReadU64("keys", 1), ElementsAre(42));
}

TEST_F(ModelFiles, EqualModelsAreEqualBytes) {
  ASSERT_TRUE(SaveModel(Path("a"), ExampleModel()));
  ASSERT_TRUE(SaveModel(Path("b"), ExampleModel()));
  EXPECT_EQ(Bytes(Path("a")), Bytes(Path("b")));
  EXPECT_EQ(FileCount(), 2u);
}

TEST_F(ModelFiles, FindsEveryOfManyRows) {
  StoredRows rows;
  std::vector<HashedKey> keys;
  for (uint64_t i = 0; i < 10000; ++i) keys.push_back(MixKey(i));
  std::sort(keys.begin(), keys.end());
  for (const HashedKey key : keys) rows.Append(key, std::vector<float>{static_cast<float>(UnmixKey(key) + 1)});
  rows.BuildIndex();
  std::vector<float> found(keys.size());
  rows.Lookup(keys, found);
  for (size_t i = 0; i < keys.size(); ++i) ASSERT_EQ(found[i], static_cast<float>(UnmixKey(keys[i]) + 1));
}

TEST_F(ModelFiles, LeavesRowsOfZerosOut) {
  StoredRows rows(2, {}, {});
  rows.Append(1, std::vector<float>{0, -0.0f});
  rows.Append(2, std::vector<float>{0, 1});
  EXPECT_THAT(rows.keys(), ElementsAre(2));
}

TEST_F(ModelFiles, RefusesHostileFiles) {
  EXPECT_THAT(Raw(""), HasSubstr("only 0 bytes"));
  EXPECT_THAT(Raw(std::string(8, '\xff')), HasSubstr("header would have 18446744073709551615 bytes"));
  EXPECT_THAT(Raw(std::string("\x10\0\0\0\0\0\0\0{}", 10)), HasSubstr("header would have 16 bytes"));
  EXPECT_THAT(Forge("[]", 0), HasSubstr("not a JSON object"));
  EXPECT_THAT(Forge("{\"a\":", 0), HasSubstr("not a JSON object"));
  EXPECT_THAT(Forge(std::string(100000, '['), 0), HasSubstr("nested too deeply"));
  EXPECT_THAT(Forge(R"({"a":{},"a":{}})", 0), HasSubstr("names \"a\" twice"));
  EXPECT_THAT(Forge(R"({"a":{"dtype":"F32","shape":[1]}})", 4), HasSubstr("lacks dtype"));
  EXPECT_THAT(Forge(R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1), HasSubstr("type that is not read"));
  EXPECT_THAT(Forge(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4), HasSubstr("no valid shape"));
  EXPECT_THAT(Forge(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4), HasSubstr("does not fit"));
  EXPECT_THAT(Forge(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4),
              HasSubstr("ends before it begins"));
  EXPECT_THAT(Forge(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}})", 4),
              HasSubstr("no file can hold"));
  EXPECT_THAT(Forge(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4), HasSubstr("ends at byte 8 of 4"));
  EXPECT_THAT(
      Forge(
          R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                    R"("b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
          6),
      HasSubstr("overlap at byte 2"));
  EXPECT_THAT(Forge(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8), HasSubstr("leave a gap"));
  EXPECT_THAT(Forge("{}", 8), HasSubstr("holds 8 bytes of data"));
  EXPECT_THAT(Forge(R"({"__metadata__":{"a":1}})", 0), HasSubstr("is no text"));
}

TEST_F(ModelFiles, RefusesWhatIsNoModel) {
  ASSERT_TRUE(WriteSafetensors(Path("m"), {}, {}));
  const auto model = LoadModel(Path("m"));
  ASSERT_FALSE(model);
  EXPECT_THAT(model.error().message, HasSubstr("is not a model of sheaf"));
  EXPECT_EQ(LoadModel(Path("none")).error().code, ErrorCode::kNotFound);
}

TEST_F(ModelFiles, RefusesEveryTruncation) {
  ASSERT_TRUE(SaveModel(Path("m"), ExampleModel()));
  const std::string whole = Bytes(Path("m"));
  for (size_t size = 0; size < whole.size(); ++size) {
    std::ofstream(Path("cut"), std::ios::binary) << whole.substr(0, size);
    EXPECT_FALSE(LoadModel(Path("cut"))) << size;
  }
}

TEST_F(ModelFiles, FullDiskLeavesNothingBehind) {
  EXPECT_EQ(SaveModel("/dev/full", ExampleModel()).error().code, ErrorCode::kResourceExhausted);
  ASSERT_TRUE(SaveModel(Path("m"), ExampleModel()));
  const std::string before = Bytes(Path("m"));
  // EFBIG stands in for ENOSPC: the same path, and no disk to fill.
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  signal(SIGXFSZ, SIG_IGN);
  const rlimit small{100, old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  StoredModel other = ExampleModel();
  other.bias = {1, 1};
  const Status saved = SaveModel(Path("m"), other);
  setrlimit(RLIMIT_FSIZE, &old);
  ASSERT_FALSE(saved);
  EXPECT_EQ(saved.error().code, ErrorCode::kResourceExhausted);
  EXPECT_THAT(saved.error().message, HasSubstr(Path("m")));
  EXPECT_EQ(Bytes(Path("m")), before);
  EXPECT_EQ(FileCount(), 1u);
}

}  // namespace
}  // namespace sheaf::cli
