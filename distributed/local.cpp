// The communicator of a program that nobody launched as several ranks: every collective is its own result, so
// that code above needs no case for a single process.
#include <algorithm>
#include <cstring>

#include "distributed/communicator.h"

namespace infalign::distributed {
namespace {

class LocalPublished final : public Published {
 public:
  explicit LocalPublished(std::span<const std::byte> whole) : whole_(whole) {}
  void fetch(std::span<const Interval> wanted, std::span<std::byte> out) override {
    for_pieces_within(wanted, {0, std::ssize(whole_)}, [&](Interval piece, std::int64_t place) {
      std::copy_n(whole_.begin() + piece.begin, piece.size(), out.begin() + place);
    });
  }

 private:
  std::span<const std::byte> whole_;
};

class Local final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void abort(int) override {}

 private:
  void do_barrier() override {}
  void do_broadcast(std::span<std::byte>, int) override {}
  void do_all_reduce(Reduction, Element, std::int64_t, std::byte*) override {}
  void do_reduce_scatter_sum(Element element, const std::byte* values, std::span<const Interval> intervals,
                             std::byte* mine) override {
    const auto bytes = static_cast<std::size_t>(intervals[0].size()) * size_of(element);
    if (bytes > 0) std::memcpy(mine, values, bytes);
  }
  void do_all_gather(Element, std::byte*, std::span<const Interval>) override {}
  std::vector<std::vector<std::byte>> do_all_gather_bytes(std::span<const std::byte> mine) override {
    return {{mine.begin(), mine.end()}};
  }
  std::unique_ptr<Communicator> do_split(int, int, Caller) override { return std::make_unique<Local>(); }
  std::unique_ptr<Published> do_publish(std::span<const std::byte> mine, std::span<const Interval>) override {
    return std::make_unique<LocalPublished>(mine);
  }
};

}  // namespace

std::unique_ptr<Communicator> make_local() { return std::make_unique<Local>(); }

}  // namespace infalign::distributed
