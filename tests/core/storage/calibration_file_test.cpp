#include "core/storage/calibration_file.h"

#include <hdf5.h>

#include <limits>

#include "core/storage/hdf5_file.h"
#include "core/storage/support.h"

namespace infalign::storage {
namespace {

CalibrationFile make_calibration() {
  CalibrationFile file;
  file.prompt_text = {"Once upon a time", "", "caf\xc3\xa9 \xe2\x98\x95\n\"quoted\""};
  file.prompt_id = {7, 0xffffffffffffffffULL, 0};
  file.rollouts = 4;
  file.rewards = {-1, -1, 0, 2.5F, -0.F, 0, 1e-30F, 3, -1e30F, 5, 6, 7};
  file.pooled_counts.assign(65'536, 0);
  file.pooled_counts[3] = 5;
  file.pooled_counts[65'535] = 7;
  file.quantile_levels = {0, 0.5, 1};
  file.quantile_values = {-1e30F, 0, 7};
  file.sampling = R"({"temperature": 1.0})";
  file.reference_fingerprint = "0123456789abcdef";
  file.reward_fingerprint = "fedcba9876543210";
  file.prompts_fingerprint = "";
  file.seed = 0xfedcba9876543210ULL;
  file.mean_response_length = 12.25;
  file.drawn_in_table_gap = 1e-7;
  return file;
}

void expect_equal(const CalibrationFile& a, const CalibrationFile& b) {
  EXPECT_EQ(a.prompt_text, b.prompt_text);
  EXPECT_EQ(a.prompt_id, b.prompt_id);
  EXPECT_EQ(a.rollouts, b.rollouts);
  EXPECT_EQ(a.rewards, b.rewards);
  EXPECT_EQ(a.pooled_counts, b.pooled_counts);
  EXPECT_EQ(a.quantile_levels, b.quantile_levels);
  EXPECT_EQ(a.quantile_values, b.quantile_values);
  EXPECT_EQ(a.sampling, b.sampling);
  EXPECT_EQ(a.reference_fingerprint, b.reference_fingerprint);
  EXPECT_EQ(a.reward_fingerprint, b.reward_fingerprint);
  EXPECT_EQ(a.prompts_fingerprint, b.prompts_fingerprint);
  EXPECT_EQ(a.seed, b.seed);
  EXPECT_EQ(a.mean_response_length, b.mean_response_length);
  EXPECT_EQ(a.drawn_in_table_gap, b.drawn_in_table_gap);
}

TEST(CalibrationFile, IsReadAsWritten) {
  TemporaryFolder folder;
  write_calibration(folder / "calibration.h5", make_calibration());
  expect_equal(read_calibration(folder / "calibration.h5"), make_calibration());
}

TEST(CalibrationFile, WithoutQuantilesIsReadAsWritten) {
  TemporaryFolder folder;
  CalibrationFile file = make_calibration();
  file.quantile_levels.clear();
  file.quantile_values.clear();
  write_calibration(folder / "calibration.h5", file);
  expect_equal(read_calibration(folder / "calibration.h5"), file);
}

TEST(CalibrationFile, LargerThanAChunkIsReadAsWritten) {
  TemporaryFolder folder;
  CalibrationFile file = make_calibration();
  file.rollouts = 300'001;  // a row of more than 1 MiB
  file.rewards.clear();
  for (std::int64_t i = 0; i < 3 * file.rollouts; ++i) file.rewards.push_back(static_cast<float>(i));
  file.pooled_counts = {static_cast<std::uint64_t>(3 * file.rollouts)};
  write_calibration(folder / "calibration.h5", file);
  expect_equal(read_calibration(folder / "calibration.h5"), file);
}

TEST(CalibrationFile, SameContentIsTheSameFile) {
  TemporaryFolder folder;
  write_calibration(folder / "a.h5", make_calibration());
  write_calibration(folder / "b.h5", make_calibration());
  EXPECT_EQ(bytes_of(folder / "a.h5"), bytes_of(folder / "b.h5"));
}

TEST(CalibrationFile, IsReadByH5py) {
  if (!have_h5py()) GTEST_SKIP() << "no h5py for /usr/bin/python3";
  TemporaryFolder folder;
  write_calibration(folder / "calibration.h5", make_calibration());
  EXPECT_EQ(
      run_python("import sys, h5py\n"
                 "f = h5py.File(sys.argv[1], 'r')\n"
                 "assert f['prompts/text'].asstr()[2] == 'caf\\u00e9 \\u2615\\n\"quoted\"'\n"
                 "assert f['prompts/text'].asstr()[1] == ''\n"
                 "assert f['prompts/id'][1] == 0xffffffffffffffff\n"
                 "assert f['rewards'].shape == (3, 4) and f['rewards'].dtype == '<f4'\n"
                 "assert f['rewards'][0].tolist() == [-1, -1, 0, 2.5]\n"
                 "assert f['pooled/counts'].dtype == '<u8' and f['pooled/counts'][65535] == 7\n"
                 "assert f['pooled/quantiles'][2] == 7 and f['pooled/levels'][1] == 0.5\n"
                 "assert all(f[d].fletcher32 for d in ('prompts/id', 'rewards', 'pooled/counts'))\n"
                 "a = f.attrs\n"
                 "assert a['format_version'] == 1 and a['reference_fingerprint'] == '0123456789abcdef'\n"
                 "assert a['sampling'] == '{\"temperature\": 1.0}' and a['mean_response_length'] == 12.25\n"
                 "print('ok')\n",
                 (folder / "calibration.h5").string()),
      "ok\n");
}

struct Fault {
  const char* name;
  void (*make)(CalibrationFile&);
  const char* says;
};

void PrintTo(const Fault& fault, std::ostream* out) { *out << fault.name; }

class FaultyCalibration : public testing::TestWithParam<Fault> {};

TEST_P(FaultyCalibration, IsNotWritten) {
  TemporaryFolder folder;
  CalibrationFile file = make_calibration();
  GetParam().make(file);
  expect_refused<std::runtime_error>([&] { write_calibration(folder / "c.h5", file); },
                                     {"c.h5", GetParam().says});
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

INSTANTIATE_TEST_SUITE_P(
    CalibrationFile, FaultyCalibration,
    testing::Values(
        Fault{"no_prompts",
              [](CalibrationFile& file) {
                file.prompt_text.clear(), file.prompt_id.clear(), file.rewards.clear();
              },
              "no prompts"},
        Fault{"texts_and_ids", [](CalibrationFile& file) { file.prompt_text.pop_back(); }, "/prompts/text"},
        Fault{"number_of_rewards", [](CalibrationFile& file) { file.rewards.pop_back(); }, "/rewards"},
        Fault{"unsorted", [](CalibrationFile& file) { std::swap(file.rewards[4], file.rewards[7]); },
              "prompt 1"},
        Fault{"not_a_number",
              [](CalibrationFile& file) { file.rewards[11] = std::numeric_limits<float>::quiet_NaN(); },
              "prompt 2"},
        Fault{"infinite",
              [](CalibrationFile& file) { file.rewards[3] = std::numeric_limits<float>::infinity(); },
              "not finite"},
        Fault{"counts", [](CalibrationFile& file) { ++file.pooled_counts[9]; }, "add up to 13"},
        Fault{"levels", [](CalibrationFile& file) { file.quantile_levels[2] = 1.5; }, "[0, 1]"},
        Fault{"levels_and_values", [](CalibrationFile& file) { file.quantile_levels.pop_back(); }, "lengths"},
        Fault{"length", [](CalibrationFile& file) { file.mean_response_length = std::nan(""); },
              "mean_response_length"}),
    [](const auto& instance) { return std::string(instance.param.name); });

TEST(CalibrationFile, AStringThatHdf5WouldCutIsNotWritten) {
  TemporaryFolder folder;
  CalibrationFile file = make_calibration();
  file.prompt_text[0] = std::string("a\0b", 3);
  EXPECT_THROW(write_calibration(folder / "c.h5", file), std::invalid_argument);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

// ---- damage
// ------------------------------------------------------------------------------------------------------------

TEST(DamagedCalibrationFile, IsCheckedLikeOneToBeWritten) {
  TemporaryFolder folder;
  const auto path = folder / "c.h5";
  const auto write = [&](std::int64_t version, const std::vector<float>& rewards, bool with_counts) {
    Hdf5Writer file(path);
    file.set_attributes("/", {{"format_version", version},
                              {"sampling", "{}"},
                              {"reference_fingerprint", ""},
                              {"reward_fingerprint", ""},
                              {"prompts_fingerprint", ""},
                              {"seed", std::uint64_t{1}},
                              {"mean_response_length", 1.0},
                              {"drawn_in_table_gap", 0.0}});
    file.write_strings("/prompts/text", std::vector<std::string>{"a"});
    file.write<std::uint64_t>("/prompts/id", {1}, std::vector<std::uint64_t>{1});
    file.write<float>("/rewards", {1, 2}, rewards);
    if (with_counts) file.write<std::uint64_t>("/pooled/counts", {1}, std::vector<std::uint64_t>{2});
    file.write<double>("/pooled/levels", {0}, {});
    file.write<float>("/pooled/quantiles", {0}, {});
    file.commit(Hdf5Writer::Seal::kYes);
  };
  write(1, {1, 2}, true);
  EXPECT_EQ(read_calibration(path).rewards, (std::vector<float>{1, 2}));
  write(2, {1, 2}, true);
  expect_refused<InputError>([&] { read_calibration(path); }, {"c.h5", "format_version 2"});
  write(1, {2, 1}, true);
  expect_refused<InputError>([&] { read_calibration(path); }, {"c.h5", "not ascending"});
  write(1, {1, 2}, false);
  expect_refused<InputError>([&] { read_calibration(path); }, {"c.h5", "/pooled/counts"});
}

TEST(DamagedCalibrationFile, TruncatedAbsentOrAnythingElse) {
  TemporaryFolder folder;
  const auto path = folder / "c.h5";
  expect_refused<InputError>([&] { read_calibration(path); }, {"c.h5", "no such file"});
  write_calibration(path, make_calibration());
  const std::string whole = bytes_of(path);
  for (const std::size_t length : {std::size_t{0}, std::size_t{50}, whole.size() / 2, whole.size() - 1}) {
    set_bytes(path, whole.substr(0, length));
    expect_refused<InputError>([&] { read_calibration(path); }, {"c.h5"});
  }
}

/// Found, or without effect (HDF5 leaves unused room in its files).
TEST(DamagedCalibrationFile, FlippedByteNeverChangesWhatIsRead) {
  TemporaryFolder folder;
  const auto path = folder / "c.h5";
  CalibrationFile file = make_calibration();
  file.pooled_counts = {12};  // a small file, to go through it closely
  write_calibration(path, file);
  const std::string whole = bytes_of(path);
  const std::size_t descriptors = open_descriptors();
  int found = 0;
  for (std::size_t i = 0; i < whole.size(); i += 17) {
    std::string flipped = whole;
    flipped[i] = static_cast<char>(flipped[i] ^ 0xff);
    set_bytes(path, flipped);
    try {
      const CalibrationFile read = read_calibration(path);
      expect_equal(read, file);
      if (testing::Test::HasFailure()) FAIL() << "byte " << i;
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("c.h5")) << i;
      ++found;
    }
  }
  EXPECT_GT(found, 100);
  EXPECT_EQ(open_descriptors(), descriptors);
  EXPECT_EQ(H5Fget_obj_count(static_cast<hid_t>(H5F_OBJ_ALL), H5F_OBJ_ALL), 0);
}

}  // namespace
}  // namespace infalign::storage
