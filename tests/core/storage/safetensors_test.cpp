#include "core/storage/safetensors.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "core/storage/element_type.h"
#include "core/storage/support.h"

namespace infalign::storage {
namespace {

std::string file_of(const std::string& header, const std::string& data) {
  const std::uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + header + data;
}

std::string floats(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

std::vector<float> read_all(const SafetensorsReader& reader, const std::string& name) {
  const auto& shape = reader.tensors().at(name).shape;
  std::vector<float> values(static_cast<std::size_t>(
      std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>())));
  reader.read(name, shape, values);
  return values;
}

// ---- reading
// -----------------------------------------------------------------------------------------------------------

TEST(SafetensorsReader, ReadsThreeTypesAtAnyAlignment) {
  TemporaryFolder folder;
  const std::string header =
      R"({"__metadata__":{"format":"pt","free":"text"},"b":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]},)"
      R"("h":{"dtype":"F16","shape":[2,1],"data_offsets":[2,6]},"f":{"dtype":"F32","shape":[2],"data_offsets":[6,14]},)"
      R"("none":{"dtype":"F32","shape":[0,3],"data_offsets":[14,14]}}  )";
  set_bytes(folder / "a.safetensors",
            file_of(header, std::string("\x80\x3f\x00\x3c\x00\xc0", 6) + floats({1.5F, -2.F})));
  const auto reader = SafetensorsReader::open_file(folder / "a.safetensors");
  EXPECT_EQ(reader.tensors().size(), 4U);
  EXPECT_EQ(read_all(reader, "b"), (std::vector<float>{1}));
  EXPECT_EQ(read_all(reader, "h"), (std::vector<float>{1, -2}));
  EXPECT_EQ(read_all(reader, "f"), (std::vector<float>{1.5F, -2}));
  EXPECT_EQ(read_all(reader, "none"), std::vector<float>{});
}

TEST(SafetensorsReader, RefusesAnotherShapeANameThatIsNotThereAndNonFiniteValues) {
  TemporaryFolder folder;
  const std::string header = R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  set_bytes(folder / "a.safetensors", file_of(header, floats({1, std::nanf("")})));
  const auto reader = SafetensorsReader::open_file(folder / "a.safetensors");
  std::vector<float> out(2);
  const std::vector<std::int64_t> shape = {2}, other = {1, 2};
  expect_refused<InputError>([&] { reader.read("w", other, out); }, {"a.safetensors", "w", "[2]", "[1, 2]"});
  expect_refused<InputError>([&] { reader.read("v", shape, out); }, {"a.safetensors", "v"});
  expect_refused<InputError>([&] { reader.read("w", shape, out); },
                             {"a.safetensors", "w", "not finite", "element 1"});
}

struct Malformed {
  const char* name;
  std::string bytes;
  std::string says;
};

void PrintTo(const Malformed& malformed, std::ostream* out) { *out << malformed.name; }

class MalformedSafetensors : public testing::TestWithParam<Malformed> {};

TEST_P(MalformedSafetensors, IsRefusedAndNamed) {
  TemporaryFolder folder;
  set_bytes(folder / "bad.safetensors", GetParam().bytes);
  expect_refused<InputError>([&] { SafetensorsReader::open_file(folder / "bad.safetensors"); },
                             {"bad.safetensors", GetParam().says});
}

std::string one_tensor(const std::string& entry, std::size_t data = 8) {
  return file_of(R"({"w":)" + entry + "}", std::string(data, '\0'));
}

std::string two_tensors(int first, int first_end, int second, int second_end, std::size_t data) {
  const auto entry = [](int begin, int end) {
    return R"({"dtype":"F32","shape":[)" + std::to_string((end - begin) / 4) + R"(],"data_offsets":[)" +
           std::to_string(begin) + "," + std::to_string(end) + "]}";
  };
  return file_of(R"({"a":)" + entry(first, first_end) + R"(,"b":)" + entry(second, second_end) + "}",
                 std::string(data, '\0'));
}

INSTANTIATE_TEST_SUITE_P(
    Reader, MalformedSafetensors,
    testing::Values(
        Malformed{"empty", "", "too short"}, Malformed{"seven_bytes", "1234567", "too short"},
        Malformed{"header_beyond_file", std::string("\xff\0\0\0\0\0\0\0{}", 10), "truncated"},
        Malformed{"header_length_of_all_ones", std::string(8, '\xff') + "{}", "truncated"},
        Malformed{"not_json", file_of("{\"w\":", ""), "JSON"},
        Malformed{"not_utf8", file_of("{\"\xff\":1}", ""), "JSON"},
        Malformed{"array", file_of("[]", ""), "JSON object"},
        Malformed{"deeply_nested", file_of(std::string(100'000, '['), ""), "JSON"},
        Malformed{"entry_not_object", one_tensor("3"), "tensor w"},
        Malformed{"no_dtype", one_tensor(R"({"shape":[2],"data_offsets":[0,8]})"), "no dtype"},
        Malformed{"other_dtype", one_tensor(R"({"dtype":"I64","shape":[1],"data_offsets":[0,8]})"),
                  "dtype I64"},
        Malformed{"no_shape", one_tensor(R"({"dtype":"F32","data_offsets":[0,8]})"), "shape"},
        Malformed{"negative_extent", one_tensor(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"),
                  "shape"},
        Malformed{"fractional_extent", one_tensor(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})"),
                  "shape"},
        Malformed{"extent_of_64_bits",
                  one_tensor(R"({"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]})"),
                  "shape"},
        Malformed{"overflowing_shape",
                  one_tensor(R"({"dtype":"F32","shape":[4611686018427387904,4,2],"data_offsets":[0,8]})"),
                  "shape"},
        Malformed{"size_differs_from_shape",
                  one_tensor(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})"), "shape"},
        Malformed{"one_offset", one_tensor(R"({"dtype":"F32","shape":[2],"data_offsets":[0]})"),
                  "data_offsets"},
        Malformed{"offsets_backwards", one_tensor(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"),
                  "data_offsets"},
        Malformed{"truncated_data", one_tensor(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", 7),
                  "truncated"},
        Malformed{"surplus_data", one_tensor(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", 9),
                  "belong to none"},
        Malformed{"overlap", two_tensors(0, 8, 4, 12, 12), "overlaps"},
        Malformed{"hole", two_tensors(0, 4, 8, 12, 12), "hole"},
        Malformed{"hole_at_the_start", two_tensors(4, 8, 8, 12, 12), "hole"},
        // The JSON parser keeps the last of two equal keys; the first one's bytes are then nobody's.
        Malformed{"same_name_twice",
                  file_of(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                          R"("w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                          std::string(8, '\0')),
                  "hole"}),
    [](const auto& instance) { return std::string(instance.param.name); });

TEST(SafetensorsReader, NamesAFileThatCannotBeOpened) {
  TemporaryFolder folder;
  const std::size_t descriptors = open_descriptors();
  expect_refused<InputError>([&] { SafetensorsReader::open_file(folder / "absent.safetensors"); },
                             {"absent.safetensors", "No such file"});
  expect_refused<InputError>([&] { SafetensorsReader::open_file(folder.path()); }, {"Is a directory"});
  expect_refused<InputError>([&] { SafetensorsReader::open_folder(folder.path()); },
                             {folder.path().string(), "model.safetensors"});
  EXPECT_EQ(open_descriptors(), descriptors);
}

// ---- shards
// ------------------------------------------------------------------------------------------------------------

class ShardedSafetensors : public testing::Test {
 protected:
  void SetUp() override {
    const std::vector<float> one = {1}, two = {2};
    write_safetensors(folder_ / "s1.safetensors", std::vector<NamedTensor>{{"a", {1}, one}});
    write_safetensors(folder_ / "s2.safetensors", std::vector<NamedTensor>{{"b", {1}, two}});
  }
  void refused(const std::string& index, const std::vector<std::string>& parts) {
    set_bytes(folder_ / "model.safetensors.index.json", index);
    expect_refused<InputError>([&] { SafetensorsReader::open_folder(folder_.path()); }, parts);
  }
  TemporaryFolder folder_;
};

TEST_F(ShardedSafetensors, AreReadTogether) {
  set_bytes(folder_ / "model.safetensors.index.json",
            R"({"weight_map":{"a":"s1.safetensors","b":"./s2.safetensors"}})");
  const auto reader = SafetensorsReader::open_folder(folder_.path());
  EXPECT_EQ(read_all(reader, "a"), (std::vector<float>{1}));
  EXPECT_EQ(read_all(reader, "b"), (std::vector<float>{2}));
}

TEST_F(ShardedSafetensors, AnIndexThatDoesNotHoldIsRefused) {
  refused("{", {"index.json", "JSON"});
  refused("{}", {"index.json", "weight_map"});
  refused(R"({"weight_map":{"a":1}})", {"index.json", "a", "file name"});
  refused(R"({"weight_map":{"c":"s1.safetensors"}})", {"s1.safetensors", "no tensor c"});
  refused(R"({"weight_map":{"a":"s3.safetensors"}})", {"s3.safetensors", "No such file"});
}

TEST_F(ShardedSafetensors, AnIndexCannotLeadOutOfTheFolder) {
  for (const std::string name : {"../s1.safetensors", "/etc/passwd", "x/../../s1.safetensors", "", "x/"}) {
    refused(R"({"weight_map":{"a":")" + name + R"("}})", {"index.json", "outside"});
  }
}

// ---- writing
// -----------------------------------------------------------------------------------------------------------

TEST(WriteSafetensors, HasTheDocumentedLayout) {
  TemporaryFolder folder;
  const std::vector<float> z = {1, 2, 3}, a = {4};
  write_safetensors(folder / "m.safetensors", std::vector<NamedTensor>{{"z", {3, 1}, z}, {"a", {1}, a}});
  const std::string bytes = bytes_of(folder / "m.safetensors");
  std::uint64_t size = 0;
  std::memcpy(&size, bytes.data(), 8);
  EXPECT_EQ(size % 8, 0U);
  EXPECT_EQ(bytes.substr(8 + size), floats({1, 2, 3, 4}));  // in the given order
  const auto header = nlohmann::json::parse(bytes.substr(8, size));
  EXPECT_EQ(header, nlohmann::json::parse(R"({"__metadata__":{"format":"pt"},
      "z":{"dtype":"F32","shape":[3,1],"data_offsets":[0,12]},"a":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}})"));
}

TEST(WriteSafetensors, RefusesWhatCannotBeStored) {
  TemporaryFolder folder;
  const auto file = folder / "m.safetensors";
  const std::vector<float> good = {1, 2}, infinite = {1, std::numeric_limits<float>::infinity()},
                           large = {7, 70'000};
  const auto write = [&](const std::vector<NamedTensor>& tensors, DataType type) {
    return [=] { write_safetensors(file, tensors, type); };
  };
  expect_refused<std::runtime_error>(write({{"w", {2}, infinite}}, DataType::kFloat32),
                                     {"m.safetensors", "w", "finite"});
  expect_refused<std::runtime_error>(write({{"w", {2}, large}}, DataType::kFloat16), {"w", "70000", "F16"});
  expect_refused<std::invalid_argument>(write({{"w", {3}, good}}, DataType::kFloat32), {"w"});
  expect_refused<std::invalid_argument>(write({{"w", {2}, good}, {"w", {2}, good}}, DataType::kFloat32),
                                        {"w"});
  expect_refused<std::invalid_argument>(write({{"__metadata__", {2}, good}}, DataType::kFloat32),
                                        {"__metadata__"});
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  write_safetensors(file, std::vector<NamedTensor>{{"w", {2}, large}}, DataType::kBFloat16);
  EXPECT_EQ(read_all(SafetensorsReader::open_file(file), "w"),
            (std::vector<float>{7, 70'144}));  // 8 bits of mantissa
}

TEST(WriteSafetensors, OnAFullDiskTheOldFileStays) {
  TemporaryFolder folder;
  const std::vector<float> small = {1}, large(100'000, 1.0F);
  write_safetensors(folder / "m.safetensors", std::vector<NamedTensor>{{"w", {1}, small}});
  const std::string before = bytes_of(folder / "m.safetensors");
  {
    const FullDisk disk(50'000);
    expect_refused<std::runtime_error>(
        [&] {
          write_safetensors(folder / "m.safetensors", std::vector<NamedTensor>{{"w", {100'000}, large}});
        },
        {"m.safetensors", "File too large"});
  }
  EXPECT_EQ(bytes_of(folder / "m.safetensors"), before);
  EXPECT_FALSE(std::filesystem::exists(folder / "m.safetensors.tmp"));
}

// ---- models as the field keeps them
// ------------------------------------------------------------------------------------

/// Reads a model, writes it in its own type and reads that: the same bytes for each tensor.
void expect_round_trip(const std::filesystem::path& model, std::int64_t parameters) {
  const auto reader = SafetensorsReader::open_folder(model);
  std::vector<std::vector<float>> values;
  for (const auto& [name, tensor] : reader.tensors()) values.push_back(read_all(reader, name));
  std::vector<NamedTensor> tensors;
  std::int64_t total = 0;
  for (const auto& [name, tensor] : reader.tensors()) {
    tensors.push_back({name, tensor.shape, values[tensors.size()]});
    total += static_cast<std::int64_t>(tensors.back().values.size());
  }
  EXPECT_EQ(total, parameters);
  TemporaryFolder folder;
  write_safetensors(folder / "model.safetensors", tensors, reader.tensors().begin()->second.type);
  const auto again = SafetensorsReader::open_folder(folder.path());
  ASSERT_EQ(again.tensors().size(), reader.tensors().size());
  for (const auto& [name, tensor] : reader.tensors()) {
    const auto& copy = again.tensors().at(name);
    EXPECT_EQ(copy.shape, tensor.shape) << name;
    EXPECT_TRUE(std::ranges::equal(copy.data, tensor.data)) << name;
  }
}

class PublishedModel : public testing::TestWithParam<std::pair<const char*, std::int64_t>> {};

TEST_P(PublishedModel, IsReadAndWrittenBitForBit) {
  const auto model = data_folder() / GetParam().first;
  if (!std::filesystem::exists(model)) GTEST_SKIP() << "no test data at " << model;
  expect_round_trip(model, GetParam().second);
}

INSTANTIATE_TEST_SUITE_P(Safetensors, PublishedModel,
                         testing::Values(std::pair{"hf-parity/llama-mha-tied", std::int64_t{25'248}},
                                         std::pair{"hf-parity/llama-gqa-llama3", std::int64_t{29'856}},
                                         std::pair{"hf-parity/llama-bfloat16", std::int64_t{20'064}},
                                         std::pair{"stories260K-hf", std::int64_t{260'032}}));

TEST(SafetensorsAsBfloat16, AreTheFilesBitsOrRounded) {
  const TemporaryFolder folder;
  const auto file = folder.path() / "model.safetensors";
  std::vector<float> values;
  for (int i = 0; i < 300'000; ++i)
    values.push_back(std::ldexp(1.0f + static_cast<float>(i) * 1e-6f, i % 20 - 10));
  const std::vector<std::int64_t> shape = {300, 1000};
  const NamedTensor tensor{"x", shape, values};
  for (const DataType type : {DataType::kFloat32, DataType::kBFloat16, DataType::kFloat16}) {
    write_safetensors(file, std::span(&tensor, 1), type);
    const auto reader = SafetensorsReader::open_file(file);
    std::vector<float> wide(values.size());
    std::vector<std::uint16_t> narrow(values.size());
    reader.read("x", shape, std::span<float>(wide));
    reader.read("x", shape, std::span<std::uint16_t>(narrow));
    for (std::size_t i = 0; i < wide.size(); ++i) ASSERT_EQ(narrow[i], float_to_bfloat16(wide[i])) << i;
  }
}

}  // namespace
}  // namespace infalign::storage
