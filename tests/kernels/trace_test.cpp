// Spans are recorded once tracing has started, nest as scopes do, and tell their threads apart.
#include "kernels/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace infalign::kernels {
namespace {

TEST(Trace, RecordsNestedSpansOfAllThreads) {
  { const Span before("before the start"); }
  start_trace();
  {
    const Span outer("outer");
    { const Span inner("inner"); }
    std::thread([] { const Span other("other"); }).join();
  }
  const auto events = take_trace();
  ASSERT_EQ(events.size(), 3u);
  const auto named = [&](const std::string& name) {
    return *std::ranges::find(events, name, &TraceEvent::name);
  };
  const auto outer = named("outer"), inner = named("inner"), other = named("other");
  EXPECT_LE(outer.begin, inner.begin);
  EXPECT_LE(inner.begin, inner.end);
  EXPECT_LE(inner.end, outer.end);
  EXPECT_LE(inner.end, other.begin);
  EXPECT_EQ(outer.thread, inner.thread);
  EXPECT_NE(outer.thread, other.thread);
  EXPECT_THAT(take_trace(), ::testing::IsEmpty());
}

TEST(Phase, IsTheInnermostSpanOfTheFollowedThread) {
  { const Span before("before it is followed"); }
  follow_this_thread();
  EXPECT_EQ(phase(), "");
  const Span outer("outer");
  {
    const Span inner("inner");
    EXPECT_EQ(phase(), "inner");
    std::thread([] { const Span other("other"); }).join();
    EXPECT_EQ(phase(), "inner");
    const Span waiting("ranks: barrier");
    EXPECT_EQ(phase(), "inner");
    std::string seen;
    std::thread([&] { seen = phase(); }).join();
    EXPECT_EQ(seen, "inner");
  }
  EXPECT_EQ(phase(), "outer");
}

TEST(Pulse, IsCountedOnAllThreadsAndWithEachSpan) {
  const auto before = pulses();
  pulse();
  { const Span span("span"); }
  std::thread(pulse).join();
  EXPECT_EQ(pulses(), before + 3);
}

}  // namespace
}  // namespace infalign::kernels
