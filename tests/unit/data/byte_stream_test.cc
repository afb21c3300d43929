#include "worker/data/byte_stream.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include <gmock/gmock.h>

#include "common/base/random.h"
#include "tests/unit/data/temp_files.h"

namespace sheaf {
namespace {

using ::testing::HasSubstr;

Result<std::string> ReadAll(ByteStream& stream, size_t step) {
  std::string all, part(step, '\0');
  for (;;) {
    SHEAF_ASSIGN_OR_RETURN(const size_t got, stream.Read(part));
    if (got == 0) return all;
    all.append(part, 0, got);
  }
}

Result<std::string> ReadFile(const std::string& path, size_t step = 4096) {
  SHEAF_ASSIGN_OR_RETURN(auto stream, OpenByteStream(path));
  return ReadAll(*stream, step);
}

// Text that does not pack to nothing, so that streams span several input buffers.
std::string SampleText(size_t bytes) {
  Random random(7);
  std::string text;
  while (text.size() < bytes) text += std::to_string(random.Next()) + (random.Chance(0.1) ? "\n" : " ");
  text.resize(bytes);
  return text;
}

struct Packing {
  const char* suffix;
  std::string (*pack)(std::string_view);
};
const Packing kPackings[] = {{".gz", Gzip}, {".zst", Zstd}, {".xz", Xz}};

TEST(ByteStream, ReadsPlainAndPackedFilesAlike) {
  const TempFiles files;
  for (const size_t size : {0u, 1u, 1000u, 600'000u}) {
    const std::string text = SampleText(size);
    ASSERT_EQ(ReadFile(files.Write("plain", text)).value(), text);
    for (const Packing& packing : kPackings) {
      const std::string path = files.Write(std::string("packed") + packing.suffix, packing.pack(text));
      for (const size_t step : {1000u, 1'000'000u})
        EXPECT_EQ(ReadFile(path, step).value(), text) << path << " " << size;
    }
  }
  EXPECT_EQ(ReadFile(files.Write("tiny.gz", Gzip("one byte at a time")), 1).value(), "one byte at a time");
}

TEST(ByteStream, SeesCompressionWithoutASuffix) {
  const TempFiles files;
  for (const Packing& packing : kPackings)
    EXPECT_EQ(ReadFile(files.Write("data", packing.pack("hello"))).value(), "hello");
}

TEST(ByteStream, ReadsFilesOfSeveralMembers) {
  const TempFiles files;
  for (const Packing& packing : kPackings) {
    const std::string path =
        files.Write(std::string("two") + packing.suffix, packing.pack("a\nb") + packing.pack("") + packing.pack("c\n"));
    EXPECT_EQ(ReadFile(path).value(), "a\nbc\n") << path;
  }
}

TEST(ByteStream, ToleratesZerosBehindGzipButNoOtherBytes) {
  const TempFiles files;
  EXPECT_EQ(ReadFile(files.Write("a.gz", Gzip("text") + std::string(700, '\0'))).value(), "text");
  const auto result = ReadFile(files.Write("b.gz", Gzip("text") + std::string(3, '\0') + "junk"));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kDataLoss);
  EXPECT_FALSE(ReadFile(files.Write("c.gz", Gzip("text") + "junk")));
  EXPECT_FALSE(ReadFile(files.Write("c.zst", Zstd("text") + "junk")));
  EXPECT_FALSE(ReadFile(files.Write("c.xz", Xz("text") + "junk")));
}

TEST(ByteStream, NamesFileAndOffsetWhereEveryCutFileEnds) {
  const std::string text = SampleText(300);
  for (const Packing& packing : kPackings) {
    const std::string packed = packing.pack(text);
    for (size_t length = 6; length < packed.size(); ++length) {
      const auto result =
          ReadAll(*MakeDecoder(CompressionOf(packed), MakeMemoryStream(packed.substr(0, length)), "rows.gz"), 100);
      ASSERT_FALSE(result) << packing.suffix << " cut to " << length << " of " << packed.size();
      EXPECT_EQ(result.error().code, ErrorCode::kDataLoss);
      EXPECT_THAT(result.error().message, HasSubstr("rows.gz"));
      EXPECT_THAT(result.error().message, HasSubstr("cut off at offset " + std::to_string(length)));
    }
  }
}

TEST(ByteStream, ReportsFlippedBitsOrReadsTheSame) {
  // Some header bits (a gzip time stamp, a name) carry no data; all others must be noticed.
  const std::string text = SampleText(400);
  for (const Packing& packing : kPackings) {
    const std::string packed = packing.pack(text);
    size_t noticed = 0;
    for (size_t i = 0; i < packed.size(); ++i) {
      std::string broken = packed;
      broken[i] = static_cast<char>(broken[i] ^ 0x10);
      const Compression compression = CompressionOf(packed);
      const auto result = ReadAll(*MakeDecoder(compression, MakeMemoryStream(broken), "broken"), 100);
      if (!result) {
        ++noticed;
        EXPECT_EQ(result.error().code, ErrorCode::kDataLoss);
        EXPECT_THAT(result.error().message, HasSubstr("offset"));
      } else if (compression != Compression::kZstd) {  // zstd's one-shot packer adds no checksum
        EXPECT_EQ(*result, text) << packing.suffix << " byte " << i;
      }
    }
    EXPECT_GT(noticed, packing.pack == Zstd ? 4u : packed.size() / 2) << packing.suffix;
  }
}

TEST(ByteStream, RefusesASuffixThatPromisesTooMuch) {
  const TempFiles files;
  for (const Packing& packing : kPackings) {
    const auto result = OpenByteStream(files.Write(std::string("plain") + packing.suffix, "1 2:3\n"));
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::kDataLoss);
    EXPECT_THAT(result.error().message, HasSubstr("does not begin like one"));
  }
}

TEST(ByteStream, SaysWhatIsWrongWithAPath) {
  const TempFiles files;
  const auto missing = OpenByteStream(files.Path("none"));
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr(files.Path("none")));

  const auto folder = OpenByteStream(files.MakeFolder("folder"));
  ASSERT_FALSE(folder);
  EXPECT_EQ(folder.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(folder.error().message, HasSubstr("is a folder"));

  ASSERT_EQ(mkfifo(files.Path("pipe").c_str(), 0600), 0);
  const auto pipe = OpenByteStream(files.Path("pipe"));  // must not wait for a writer
  ASSERT_FALSE(pipe);
  EXPECT_EQ(pipe.error().code, ErrorCode::kInvalidArgument);
}

TEST(ByteStream, SaysWhenAFileMayNotBeRead) {
  const TempFiles files;
  EXPECT_EQ(FailErrno(EACCES, "cannot open", "x").error.code, ErrorCode::kPermissionDenied);
  EXPECT_EQ(FailErrno(EMFILE, "cannot open", "x").error.code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(FailErrno(EIO, "cannot read", "x").error.code, ErrorCode::kIo);
  if (geteuid() == 0) GTEST_SKIP() << "root reads everything";
  chmod(files.Write("secret", "x").c_str(), 0);
  const auto secret = OpenByteStream(files.Path("secret"));
  ASSERT_FALSE(secret);
  EXPECT_EQ(secret.error().code, ErrorCode::kPermissionDenied);
}

TEST(ByteStream, SeeksInPlainFilesOnly) {
  const TempFiles files;
  auto plain = OpenByteStream(files.Write("plain", "0123456789")).value();
  ASSERT_TRUE(plain->seekable());
  ASSERT_TRUE(plain->Seek(7));
  EXPECT_EQ(ReadAll(*plain, 10).value(), "789");
  auto packed = OpenByteStream(files.Write("packed.gz", Gzip("0123456789"))).value();
  EXPECT_FALSE(packed->seekable());
  EXPECT_FALSE(packed->Seek(7));
}

TEST(ReadWholeFile, RefusesMoreThanItsLimit) {
  const TempFiles files;
  std::string text;
  EXPECT_TRUE(ReadWholeFile(files.Write("ten", "0123456789"), 10, text));
  EXPECT_EQ(text, "0123456789");
  EXPECT_TRUE(ReadWholeFile(files.Write("empty", ""), 10, text));
  EXPECT_EQ(text, "");
  const auto status = ReadWholeFile(files.Write("eleven", "0123456789a"), 10, text);
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, HasSubstr("max_line_bytes"));
}

}  // namespace
}  // namespace sheaf
