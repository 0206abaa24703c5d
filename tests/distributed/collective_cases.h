// What every communicator must do, as cases with results known by arithmetic. The same cases run on threads
// (unit tests) and under mpirun (mpi_collectives.cpp), so they report by exception.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "distributed/communicator.h"
#include "distributed/machine.h"
#include "kernels/device.h"
#include "kernels/pages.h"

namespace infalign::distributed::testing {

struct CollectiveCase {
  const char* name;
  void (*run)(Communicator&);
};

/// Throws, naming the rank and the first difference, unless both hold the same values (NaN equals NaN).
template <class T>
void expect_values(const Communicator& ranks, const std::vector<T>& actual, const std::vector<T>& expected) {
  const auto same = [](const T& a, const T& b) {
    return a == b || (a != a && b != b);  // NOLINT(misc-redundant-expression): true of NaN
  };
  if (std::ranges::equal(actual, expected, same)) return;
  std::ostringstream text;
  text.precision(17);
  text << "rank " << ranks.rank() << " of " << ranks.size() << ": " << to_string(ranks.last_collective())
       << ": ";
  if (actual.size() != expected.size()) {
    text << actual.size() << " values, not " << expected.size();
  } else {
    const auto [a, e] = std::ranges::mismatch(actual, expected, same);
    text << "value " << a - actual.begin() << " is " << +*a << ", not " << +*e;
  }
  throw std::runtime_error(text.str());
}

inline void expect(const Communicator& ranks, bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error("rank " + std::to_string(ranks.rank()) + ": not so: " + what);
}

/// One after the other in rank order, of the sizes that size_of_rank(rank) gives.
template <class Size>
std::vector<Interval> consecutive(int ranks, Size size_of_rank) {
  std::vector<Interval> intervals;
  std::int64_t end = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    intervals.push_back({end, end + size_of_rank(rank)});
    end = intervals.back().end;
  }
  return intervals;
}

/// Ways to cut a buffer: even, uneven with an empty first share, fewer elements than ranks, all for one,
/// no elements at all.
inline std::vector<std::vector<Interval>> cuts(int ranks) {
  return {consecutive(ranks, [](int) { return 5; }),
          consecutive(ranks, [](int rank) { return 7 * rank; }),
          consecutive(ranks, [](int rank) { return rank == 1 ? 1 : 0; }),
          consecutive(ranks, [=](int rank) { return rank == ranks - 1 ? 11 : 0; }),
          consecutive(ranks, [](int) { return 0; }),
          shares(1000, ranks, 64)};
}

inline std::int64_t triangle(std::int64_t n) { return n * (n + 1) / 2; }

inline void barriers(Communicator& ranks) {
  const std::uint64_t before = ranks.last_collective().sequence;
  for (int i = 0; i < 20; ++i) ranks.barrier();
  expect(ranks, ranks.last_collective().sequence == before + 20, "each barrier is counted");
  expect(ranks, ranks.last_collective().kind == Collective::kBarrier, "the last collective is a barrier");
}

inline void broadcast_from_every_rank(Communicator& ranks) {
  for (int from = 0; from < ranks.size(); ++from) {
    for (const std::size_t size : {0, 1, 1000}) {
      const auto at = [from](int rank, std::size_t i) {
        return static_cast<std::uint8_t>((rank == from ? 7 : 100 + rank) * (i + 1) +
                                         static_cast<std::size_t>(from));
      };
      std::vector<std::uint8_t> data(size), expected(size);
      for (std::size_t i = 0; i < size; ++i) {
        data[i] = at(ranks.rank(), i);
        expected[i] = at(from, i);
      }
      ranks.broadcast(std::as_writable_bytes(std::span(data)), from);
      expect_values(ranks, data, expected);
    }
  }
}

template <class Integer>
void sum_of_integers(Communicator& ranks) {
  for (const std::size_t size : {0, 1, 3, 100}) {
    // 2^60 - 1 does not fit a float64, so a detour through floating point would show.
    const Integer large = (Integer{1} << 60) - 1;
    std::vector<Integer> values(size), expected(size);
    for (std::size_t i = 0; i < size; ++i) {
      values[i] = static_cast<Integer>(ranks.rank() + 1) * static_cast<Integer>(i + 1);
      expected[i] = static_cast<Integer>(triangle(ranks.size())) * static_cast<Integer>(i + 1);
      if (ranks.rank() == 0) values[i] += large;
      expected[i] += large;
    }
    ranks.all_reduce_sum(std::span(values));
    expect_values(ranks, values, expected);
  }
}

inline void sum_of_negative_integers(Communicator& ranks) {
  std::vector<std::int64_t> values{-1, -ranks.rank(), std::int64_t{1} - 2 * ranks.rank()};
  const std::int64_t size = ranks.size();
  ranks.all_reduce_sum(std::span(values));
  expect_values(ranks, values, {-size, -triangle(size - 1), size - 2 * triangle(size - 1)});
}

// 2^53 + 1 rounds back to 2^53: the place of the large summand decides how many ones
// survive, and so tells the order.
inline void sum_of_float64_in_rank_order(Communicator& ranks) {
  const auto count = static_cast<std::size_t>(ranks.size());
  std::vector<double> values(count, 1.0), expected(count);
  values[static_cast<std::size_t>(ranks.rank())] = 0x1p53;  // value i: rank i gives 2^53, the others 1
  for (std::size_t i = 0; i < count; ++i) {
    expected[i] = i == 0 ? 0x1p53 : 1.0;
    for (std::size_t rank = 1; rank < count; ++rank) expected[i] += rank == i ? 0x1p53 : 1.0;
  }
  ranks.all_reduce_sum(std::span(values));
  expect_values(ranks, values, expected);
  std::vector<double> none;
  ranks.all_reduce_sum(std::span(none));
}

inline void maximum(Communicator& ranks) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  const double rank = ranks.rank();
  const double last = ranks.size() - 1;
  for (int odd = 0; odd < ranks.size(); ++odd) {
    const bool mine = ranks.rank() == odd;
    std::vector<double> values{rank, -rank - 1, mine ? nan : rank, mine ? 1.0 : 0.0,
                               mine ? infinity : -infinity};
    ranks.all_reduce_max(std::span(values));
    expect_values(ranks, values, {last, -1, nan, 1, infinity});
  }
}

template <class T>
void reduce_scatter(Communicator& ranks) {
  for (const std::vector<Interval>& intervals : cuts(ranks.size())) {
    const Interval own = intervals[static_cast<std::size_t>(ranks.rank())];
    std::vector<T> values(static_cast<std::size_t>(intervals.back().end));
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<T>(ranks.rank() + 1) * static_cast<T>(i) - static_cast<T>(ranks.rank());
    std::vector<T> mine(static_cast<std::size_t>(own.size())), expected(mine.size());
    for (std::size_t i = 0; i < mine.size(); ++i)
      expected[i] = static_cast<T>(triangle(ranks.size()) * (own.begin + static_cast<std::int64_t>(i)) -
                                   triangle(ranks.size() - 1));
    const std::vector<T> before = values;
    ranks.reduce_scatter_sum(std::span<const T>(values), intervals, std::span(mine));
    expect_values(ranks, mine, expected);
    expect_values(ranks, values, before);
  }
}

template <class T>
void all_gather(Communicator& ranks) {
  for (const std::vector<Interval>& intervals : cuts(ranks.size())) {
    const Interval own = intervals[static_cast<std::size_t>(ranks.rank())];
    std::vector<T> values(static_cast<std::size_t>(intervals.back().end), static_cast<T>(-1)),
        expected(values.size());
    std::iota(expected.begin(), expected.end(), static_cast<T>(3));
    std::copy(expected.begin() + own.begin, expected.begin() + own.end, values.begin() + own.begin);
    ranks.all_gather(std::span(values), intervals);
    expect_values(ranks, values, expected);
  }
}

inline void gather_byte_strings(Communicator& ranks) {
  const auto string_of = [](int rank, int round) {
    return std::string(static_cast<std::size_t>(rank * 3 * round), static_cast<char>('a' + rank));
  };
  for (int round = 0; round < 3; ++round) {
    const std::string mine = string_of(ranks.rank(), round);
    const auto all = ranks.all_gather_bytes(std::as_bytes(std::span(mine)));
    expect(ranks, std::ssize(all) == ranks.size(), "there is a byte string from each rank");
    for (int rank = 0; rank < ranks.size(); ++rank) {
      const auto& bytes = all[static_cast<std::size_t>(rank)];
      const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      expect(ranks, text == string_of(rank, round),
             "the byte string of rank " + std::to_string(rank) + " arrives");
    }
  }
}

inline void concatenate_vectors(Communicator& ranks) {
  std::vector<std::int32_t> mine(static_cast<std::size_t>(ranks.rank()), ranks.rank()), expected;
  for (int rank = 0; rank < ranks.size(); ++rank)
    expected.insert(expected.end(), static_cast<std::size_t>(rank), rank);
  expect_values(ranks, all_gather_concatenated(ranks, std::span<const std::int32_t>(mine)), expected);
}

// Arguments that contradict each other are refused before anything is sent, so the ranks stay in step.
inline void refusals(Communicator& ranks) {
  const auto refused = [&](auto&& call) {
    try {
      call();
    } catch (const std::invalid_argument&) {
      return true;
    }
    return false;
  };
  std::vector<float> values(12), mine(12);
  const std::vector<Interval> too_many(static_cast<std::size_t>(ranks.size()) + 1);
  std::vector<Interval> short_of_all = shares(12, ranks.size());
  --short_of_all.back().end;
  std::vector<Interval> with_a_gap = shares(12, ranks.size());
  ++with_a_gap.front().begin;
  const std::uint64_t before = ranks.last_collective().sequence;
  expect(ranks, refused([&] { ranks.broadcast({}, ranks.size()); }), "a broadcast from nobody is refused");
  expect(ranks, refused([&] { ranks.broadcast({}, -1); }), "a broadcast from rank -1 is refused");
  for (const auto& intervals : {too_many, short_of_all, with_a_gap}) {
    expect(ranks, refused([&] { ranks.all_gather(std::span(values), intervals); }),
           "a gather that does not cover");
    expect(ranks, refused([&] {
             ranks.reduce_scatter_sum(std::span<const float>(values), intervals, std::span(mine));
           }),
           "a reduction that does not cover");
  }
  expect(ranks, refused([&] {
           ranks.reduce_scatter_sum(std::span<const float>(values), shares(12, ranks.size()),
                                    std::span(mine).first(0));
         }),
         "room for nothing is refused");
  expect(ranks, ranks.last_collective().sequence == before, "what is refused does not count");
  ranks.barrier();
}

// Even and odd ranks apart: each part sums for itself, also while the whole is in a collective of its own.
inline void split_ranks(Communicator& ranks) {
  const int group = ranks.rank() % 2;
  const auto part = ranks.split(group);
  expect(ranks, part->rank() == ranks.rank() / 2, "ranks of a part are in order");
  expect(ranks, part->size() == (ranks.size() + 1 - group) / 2, "a part has the ranks that asked for it");
  std::vector<std::int64_t> sum = {ranks.rank(), 1}, expected = {0, 0};
  for (int rank = group; rank < ranks.size(); rank += 2) {
    expected[0] += rank;
    expected[1] += 1;
  }
  part->all_reduce_sum(std::span(sum));
  expect_values(ranks, sum, expected);
  if (!ranks.concurrent()) return;
  const auto same = ranks.split(0);
  std::vector<std::int64_t> ones(100, 1), of_courier(100, 2);
  std::thread courier([&] {
    for (int i = 0; i < 20; ++i) same->all_reduce_sum(std::span(of_courier));
  });
  for (int i = 0; i < 20; ++i) ranks.all_reduce_sum(std::span(ones));
  courier.join();
  std::uint64_t power = 1;
  for (int i = 0; i < 20; ++i) power *= static_cast<std::uint64_t>(ranks.size());
  expect_values(ranks, ones, std::vector(100, static_cast<std::int64_t>(power)));
  expect_values(ranks, of_courier, std::vector(100, static_cast<std::int64_t>(2 * power)));
}

// Each rank reads other parts of a whole, as often as it likes, while some do something else.
inline void fetch_published(Communicator& ranks) {
  constexpr std::int64_t kFloat = sizeof(float);
  const auto intervals =
      consecutive(ranks.size(), [](int rank) { return rank == 1 ? 0 : (100 + rank) * kFloat; });
  const std::int64_t whole = intervals.back().end / kFloat;
  const Interval own = intervals[static_cast<std::size_t>(ranks.rank())];
  std::vector<float> mine, expected(static_cast<std::size_t>(whole));
  for (std::int64_t i = own.begin / kFloat; i < own.end / kFloat; ++i) mine.push_back(static_cast<float>(i));
  std::iota(expected.begin(), expected.end(), 0.0f);
  const auto published = ranks.publish(std::as_bytes(std::span(mine)), intervals);
  const auto second = ranks.publish(std::as_bytes(std::span(mine)), intervals);
  const auto fetch = [&](Published& from, const std::vector<Interval>& values) {
    std::vector<Interval> bytes;
    std::size_t size = 0;
    for (const auto& [begin, end] : values) {
      bytes.push_back({begin * kFloat, end * kFloat});
      size += static_cast<std::size_t>(end - begin);
    }
    std::vector<float> out(size, -1.0f);
    from.fetch(bytes, std::as_writable_bytes(std::span(out)));
    return out;
  };
  for (int time = 0; time < 3 * ranks.rank(); ++time) {
    const Interval wanted{time, whole - time};
    expect_values(ranks, fetch(time % 2 ? *second : *published, {wanted}),
                  std::vector(expected.begin() + wanted.begin, expected.begin() + wanted.end));
  }
  expect_values(ranks, fetch(*second, {{whole - 2, whole}, {0, 0}, {0, 1}, {1, 3}}),
                {expected[static_cast<std::size_t>(whole) - 2], expected.back(), 0.0f, 1.0f, 2.0f});
  ranks.barrier();
  for (float& value : mine) value = -value;
  ranks.barrier();
  for (float& value : expected) value = -value;
  expect_values(ranks, fetch(*published, {{0, whole}}), expected);
  ranks.barrier();
}

// One rank of a machine writes, the others find it in memory of their own; here all are of one.
inline void hold_memory_once(Communicator& ranks) {
  MachineMemory machine(ranks);
  const auto fillers_of = [&](std::span<float> memory) {
    const bool is_filler = machine.hold(std::as_writable_bytes(memory));
    for (std::size_t i = 0; is_filler && i < memory.size(); ++i) memory[i] = static_cast<float>(i);
    machine.filled(std::as_writable_bytes(memory));
    std::vector<std::int64_t> fillers{is_filler ? 1 : 0};
    ranks.all_reduce_sum(std::span(fillers));
    return fillers.front();
  };
  for (const std::size_t size : {std::size_t{10}, std::size_t{1} << 20, std::size_t{123'457}}) {
    kernels::Buffer<float> memory(size), other(size);
    const bool is_shared = kernels::has_own_pages(size * sizeof(float));
    expect(ranks, fillers_of(memory.span()) == (is_shared ? 1 : ranks.size()), "one rank fills large memory");
    expect(ranks, fillers_of(other.span()) == (is_shared ? 1 : ranks.size()), "and another");
    std::vector<float> expected(size);
    std::iota(expected.begin(), expected.end(), 0.0f);
    expect_values(ranks, std::vector(memory.span().begin(), memory.span().end()), expected);
  }
}

inline constexpr std::array kCollectiveCases{
    CollectiveCase{"barriers", barriers},
    CollectiveCase{"broadcast_from_every_rank", broadcast_from_every_rank},
    CollectiveCase{"sum_of_uint64", sum_of_integers<std::uint64_t>},
    CollectiveCase{"sum_of_int64", sum_of_integers<std::int64_t>},
    CollectiveCase{"sum_of_negative_integers", sum_of_negative_integers},
    CollectiveCase{"sum_of_float64_in_rank_order", sum_of_float64_in_rank_order},
    CollectiveCase{"maximum", maximum},
    CollectiveCase{"reduce_scatter_float32", reduce_scatter<float>},
    CollectiveCase{"reduce_scatter_int64", reduce_scatter<std::int64_t>},
    CollectiveCase{"all_gather_float32", all_gather<float>},
    CollectiveCase{"all_gather_float64", all_gather<double>},
    CollectiveCase{"all_gather_bfloat16", all_gather<std::uint16_t>},
    CollectiveCase{"gather_byte_strings", gather_byte_strings},
    CollectiveCase{"concatenate_vectors", concatenate_vectors},
    CollectiveCase{"split_ranks", split_ranks},
    CollectiveCase{"fetch_published", fetch_published},
    CollectiveCase{"hold_memory_once", hold_memory_once},
    CollectiveCase{"refusals", refusals},
};

}  // namespace infalign::distributed::testing
