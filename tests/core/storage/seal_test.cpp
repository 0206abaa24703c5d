#include "core/storage/seal.h"

#include "core/storage/calibration_file.h"
#include "core/storage/durable.h"
#include "core/storage/support.h"

namespace infalign::storage {
namespace {

void write_sealed(const std::filesystem::path& path, const std::string& content) {
  DurableFile file(path);
  file.append(std::as_bytes(std::span(content)));
  append_seal(file);
  file.commit();
}

TEST(Seal, FindsEachFlippedByteAndEachCut) {
  TemporaryFolder folder;
  write_sealed(folder / "a", std::string(100, 'x'));
  EXPECT_TRUE(check_seal(folder / "a"));
  const std::string whole = bytes_of(folder / "a");
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string flipped = whole;
    flipped[i] = static_cast<char>(flipped[i] ^ 1);
    set_bytes(folder / "a", flipped);
    try {
      EXPECT_FALSE(check_seal(folder / "a"))
          << i;  // the mark itself was hit: no seal, which the reader refuses
      EXPECT_GE(i, 100U);
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("checksum"));
    }
    set_bytes(folder / "a", whole.substr(0, i));
    EXPECT_FALSE(check_seal(folder / "a")) << i;
  }
}

TEST(Seal, SpansPiecesOfTheFile) {
  TemporaryFolder folder;
  write_sealed(folder / "a", std::string(200'000, 'x'));
  EXPECT_TRUE(check_seal(folder / "a"));
  EXPECT_EQ(bytes_of(folder / "a").substr(200'000),
            "\ninfalign fnv1a64 " + Fingerprint().add(std::string(200'000, 'x')).hex() + "\n");
}

/// HDF5 cuts the seal off when it changes a file; what is then told is the version, if that is what was
/// changed.
TEST(Seal, AFileChangedByAnotherProgramIsRefused) {
  if (!have_h5py()) GTEST_SKIP() << "no h5py for /usr/bin/python3";
  TemporaryFolder folder;
  const std::string path = (folder / "c.h5").string();
  CalibrationFile calibration;
  calibration.prompt_text = {"a"};
  calibration.prompt_id = {1};
  calibration.rollouts = 1;
  calibration.rewards = {1};
  calibration.pooled_counts = {1};
  const std::string change =
      "import sys, h5py\nh5py.File(sys.argv[1], 'r+').attrs.modify(sys.argv[2], int(sys.argv[3]))";
  write_calibration(path, calibration);
  EXPECT_EQ(run_python(change, path + " seed 7"), "");
  expect_refused<InputError>([&] { read_calibration(path); }, {"c.h5", "changed by another program"});
  write_calibration(path, calibration);
  EXPECT_EQ(run_python(change, path + " format_version 99"), "");
  expect_refused<InputError>([&] { read_calibration(path); }, {"c.h5", "format_version 99"});
}

}  // namespace
}  // namespace infalign::storage
