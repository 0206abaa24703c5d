#include "core/storage/durable.h"

#include "core/storage/support.h"

namespace infalign::storage {
namespace {

TEST(WriteFileDurably, ReplacesAndLeavesNothingElse) {
  TemporaryFolder folder;
  write_file_durably(folder / "a.txt", "first");
  write_file_durably(folder / "a.txt", "second");
  EXPECT_EQ(read_file(folder / "a.txt"), "second");
  const std::filesystem::directory_iterator entries(folder.path());
  EXPECT_EQ(std::distance(begin(entries), end(entries)), 1);
}

TEST(WriteFileDurably, OnAFullDiskTheOldFileStays) {
  TemporaryFolder folder;
  write_file_durably(folder / "a.txt", "first");
  const std::size_t descriptors = open_descriptors();
  {
    const FullDisk disk(1000);
    expect_refused<std::runtime_error>([&] { write_file_durably(folder / "a.txt", std::string(5000, 'x')); },
                                       {"a.txt", "File too large"});
  }
  EXPECT_EQ(read_file(folder / "a.txt"), "first");
  EXPECT_FALSE(std::filesystem::exists(folder / "a.txt.tmp"));
  EXPECT_EQ(open_descriptors(), descriptors);
}

TEST(WriteFileDurably, NamesTheFileItCannotCreate) {
  TemporaryFolder folder;
  expect_refused<std::runtime_error>([&] { write_file_durably(folder / "absent/a.txt", ""); },
                                     {"absent/a.txt", "No such file or directory"});
}

TEST(ReadFile, NamesWhatItCannotRead) {
  TemporaryFolder folder;
  expect_refused<InputError>([&] { read_file(folder / "absent"); }, {"absent", "No such file or directory"});
  expect_refused<InputError>([&] { read_file(folder.path()); }, {folder.path().string(), "Is a directory"});
}

TEST(RenameDurably, NamesBothOnFailure) {
  TemporaryFolder folder;
  expect_refused<std::runtime_error>([&] { rename_durably(folder / "absent", folder / "b"); },
                                     {"absent", "/b"});
}

TEST(Fingerprint, IsFnv1a) {
  // The published vectors of FNV-1a, 64 bits.
  EXPECT_EQ(Fingerprint().hex(), "cbf29ce484222325");
  EXPECT_EQ(Fingerprint().add("a").hex(), "af63dc4c8601ec8c");
  EXPECT_EQ(Fingerprint().add("foo").add("bar").hex(), "85944171f73967e8");
}

TEST(Fingerprint, OfAFileIsThatOfItsContent) {
  TemporaryFolder folder;
  const std::string content(200'001, 'z');  // several pieces
  set_bytes(folder / "a", content);
  EXPECT_EQ(Fingerprint().add_file(folder / "a").hex(), Fingerprint().add(content).hex());
  EXPECT_THROW(Fingerprint().add_file(folder / "absent"), InputError);
}

}  // namespace
}  // namespace infalign::storage
