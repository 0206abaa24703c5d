// A hash map of 64-bit keys in one array, for tables that are built once and asked millions of times: the
// merges of a BPE model and the tree of added tokens. std::unordered_map follows a pointer for each answer;
// here most answers, above all the frequent "no", come from the first cache line touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace infalign::text {

template <class Value>
class FlatMap {
 public:
  /// The value at `key`, or nullptr.
  const Value* find(std::uint64_t key) const {
    for (std::size_t i = home(key);; i = (i + 1) & mask_) {
      if (slots_[i].key == key) return &slots_[i].value;
      if (slots_[i].key == kEmpty) return nullptr;
    }
  }

  /// Puts `value` at `key`, over an older one; `key` is not 2^64 - 1.
  void set(std::uint64_t key, Value value) {
    if (2 * (size_ + 1) > slots_.size()) grow();
    std::size_t i = home(key);
    while (slots_[i].key != key && slots_[i].key != kEmpty) i = (i + 1) & mask_;
    if (slots_[i].key == kEmpty) ++size_;
    slots_[i] = {key, value};
  }

  std::size_t size() const { return size_; }

 private:
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};

  struct Slot {
    std::uint64_t key = kEmpty;
    Value value{};
  };

  std::size_t home(std::uint64_t key) const {
    key ^= key >> 29;
    return static_cast<std::size_t>((key * 0x9E3779B97F4A7C15u) >> 32) & mask_;
  }

  void grow() {
    std::vector<Slot> old(2 * slots_.size());
    old.swap(slots_);
    mask_ = slots_.size() - 1;
    size_ = 0;
    for (const Slot& slot : old)
      if (slot.key != kEmpty) set(slot.key, slot.value);
  }

  std::vector<Slot> slots_ = std::vector<Slot>(16);  // a power of two, at most half full
  std::size_t mask_ = 15;
  std::size_t size_ = 0;
};

}  // namespace infalign::text
