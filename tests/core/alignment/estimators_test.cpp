#include "core/alignment/estimators.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "core/alignment/enumeration.h"

namespace infalign::alignment {
namespace {

std::vector<float> drawn_with_ties(std::size_t count, unsigned values, std::mt19937_64& engine) {
  std::vector<float> rewards(count);
  for (float& reward : rewards) reward = static_cast<float>(engine() % values) - 1.5f;
  return rewards;
}

/// The expectation of estimate(policy's samples, reference's samples) over all pairs of tuples.
template <class Estimator>
double expected(const SmallPolicy& policy, std::size_t samples, const SmallPolicy& reference,
                std::size_t reference_samples, Estimator&& estimate) {
  double sum = 0;
  for_each_tuple(policy, samples, [&](const Tuple& ours) {
    for_each_tuple(reference, reference_samples, [&](const Tuple& theirs) {
      sum += ours.probability * theirs.probability *
             estimate(ScoredSamples{ours.selecting, ours.judging, ours.answer},
                      ScoredSamples{theirs.selecting, theirs.judging, theirs.answer});
    });
  });
  return sum;
}

TEST(WinRate, OfEveryProcedureIsUnbiased) {
  // Over all samples of four and of three, the judge not being the selector, ties in both.
  std::mt19937_64 engine(1);
  for (std::int64_t n : {1, 2, 3}) {
    for (const Procedure& procedure : small_procedures(n)) {
      const SmallPolicy policy = random_policy(3, engine), reference = random_policy(4, engine);
      const double mean = expected(policy, 4, reference, 3, [&](const auto& ours, const auto& theirs) {
        return win_rate(procedure, ours, theirs);
      });
      EXPECT_NEAR(mean, exact_win_rate(procedure, policy, reference), 1e-12) << describe(procedure);
    }
  }
}

TEST(WinRate, OfPairsAndMixturesIsUnbiased) {
  std::mt19937_64 engine(2);
  const auto make = [](const std::string& name, std::int64_t n) {
    return make_procedure(settings_of(name, n));
  };
  const std::vector<Deployment> deployments{
      {make("best_of_n", 3), make("standard", 1)},
      {make("majority_vote", 3), make("worst_of_n", 2)},
      {make("worst_of_n", 2), make("retry_until", 3)},
      Deployment({{0.3, make("standard", 1), make("standard", 1)},
                  {0.5, make("best_of_n", 3), make("above_quantile", 2)},
                  {0.2, make("retry_until", 2), make("majority_vote", 3)}})};
  for (const Deployment& deployment : deployments) {
    const SmallPolicy policy = random_policy(3, engine), reference = random_policy(4, engine);
    const double exact = exact_win_rate(deployment, policy, reference);
    const double mean = expected(policy, 4, reference, 3, [&](const auto& ours, const auto& theirs) {
      return win_rate(deployment, ours, theirs);
    });
    EXPECT_NEAR(mean, exact, 1e-12) << deployment.name();
    const double estimated = expected(policy, 4, reference, 4, [&](const auto& ours, const auto& theirs) {
      return win_rate_estimate(deployment, ours, theirs).value;
    });
    EXPECT_NEAR(estimated, exact, 1e-12) << deployment.name();
  }
}

TEST(AnswerReward, OfEveryProcedureIsUnbiased) {
  std::mt19937_64 engine(3);
  for (std::int64_t n : {1, 2, 3}) {
    for (const Procedure& procedure : small_procedures(n)) {
      const SmallPolicy policy = random_policy(3, engine);
      const Procedure standard = make_procedure("standard", 1);
      const Deployment mixture({{0.7, procedure, standard}, {0.3, standard, standard}});
      const std::vector<double> judged(policy.judging.begin(), policy.judging.end());
      double mean = 0, mean_mixture = 0;
      for_each_tuple(policy, 5, [&](const Tuple& tuple) {
        const ScoredSamples samples{tuple.selecting, tuple.judging, tuple.answer};
        mean += tuple.probability * answer_reward(procedure, samples);
        mean_mixture += tuple.probability * answer_reward(mixture, samples);
      });
      const double exact = expectation(answer_law(procedure, policy), judged);
      EXPECT_NEAR(mean, exact, 1e-12) << describe(procedure);
      EXPECT_NEAR(mean_mixture, 0.7 * exact + 0.3 * expectation(policy.probability, judged), 1e-12)
          << describe(procedure);
    }
  }
}

TEST(AnswerReward, OfPassAtNIsTheKnownEstimator) {
  // 1 - C(M - c, N)/C(M, N) with c of M right (Chen et al. 2021): 1 - C(7, 4)/C(10, 4) = 1 - 35/210.
  std::vector<float> verdict(10);
  verdict[2] = verdict[3] = verdict[8] = 1;
  EXPECT_NEAR(answer_reward(make_procedure("pass_at_n", 4), {verdict, verdict}), 1 - 35.0 / 210, 1e-14);
}

TEST(WinRate, IsOneHalfAgainstItselfAndTurnsAround) {
  std::mt19937_64 engine(9);
  const auto a = drawn_with_ties(16, 10, engine), b = drawn_with_ties(14, 10, engine);
  const std::vector<std::int64_t> x{0, 1, 2, 2, 2, 0, 1, 0, 3, 1, 2, 0, 0, 1, 1, 2};
  const ScoredSamples ours{a, a, x}, theirs{b, b, std::span(x).first(14)};
  for (const Procedure& procedure : small_procedures(3)) {
    EXPECT_NEAR(win_rate(procedure, ours, ours), 0.5, 1e-12);
    EXPECT_NEAR(win_rate(procedure, ours, theirs) + win_rate(procedure, theirs, ours), 1, 1e-12);
  }
}

/// Uniform rewards against uniform rewards squared.
struct Sides {
  std::vector<float> ours, theirs;

  Sides(std::size_t samples, std::mt19937_64& engine) : ours(samples), theirs(samples) {
    std::uniform_real_distribution<float> uniform;
    for (float& reward : ours) reward = uniform(engine);
    for (float& reward : theirs) reward = std::pow(uniform(engine), 2.0f);
  }
};

struct Repetitions {
  double mean = 0, observed_variance = 0, mean_variance = 0;
};

template <class Estimator>
Repetitions repeat(int repetitions, Estimator&& estimate) {
  Repetitions result;
  double squares = 0;
  for (int repetition = 0; repetition < repetitions; ++repetition) {
    const Estimate one = estimate();
    result.mean += one.value / repetitions;
    result.mean_variance += one.variance / repetitions;
    squares += one.value * one.value / repetitions;
  }
  result.observed_variance = (squares - result.mean * result.mean) * repetitions / (repetitions - 1);
  return result;
}

TEST(WinRateEstimate, OfManySamplesIsRightAndKnowsItsVariance) {
  // P(max of N u > max of N' v^2) = E max(u)^(N'/2) = N/(N + N'/2). 2,000 estimates: the mean within 4
  // standard errors (a false alarm of 6e-5); their observed variance has a relative deviation of sqrt(2/2000)
  // = 0.032, so the mean estimated one lies within 4 of these (6e-5), or a little higher: 200 samples are
  // many, and the jackknife exceeds by a few per cent at most.
  std::mt19937_64 engine(10);
  const auto best = [](std::int64_t n) { return make_procedure("best_of_n", n); };
  const struct {
    Deployment deployment;
    double exact;
  } cases[] = {
      {best(1), 2.0 / 3},
      {best(4), 2.0 / 3},
      {{best(4), best(1)}, 8.0 / 9},
      {Deployment({{0.5, best(1), best(1)}, {0.5, best(16), best(16)}}), 2.0 / 3},
      {Deployment({{0.25, best(1), best(4)}, {0.75, best(8), best(2)}}), 0.25 / 3 + 0.75 * 8 / 9},
  };
  for (const auto& [deployment, exact] : cases) {
    constexpr int kRepetitions = 2'000;
    const Repetitions result = repeat(kRepetitions, [&, &deployment = deployment] {
      const Sides sides(200, engine);
      return win_rate_estimate(deployment, {sides.ours, sides.ours}, {sides.theirs, sides.theirs});
    });
    EXPECT_NEAR(result.mean, exact, 4 * std::sqrt(result.observed_variance / kRepetitions))
        << deployment.name();
    EXPECT_GT(result.mean_variance, (1 - 4 * 0.032) * result.observed_variance) << deployment.name();
    EXPECT_LT(result.mean_variance, (1.05 + 4 * 0.032) * result.observed_variance) << deployment.name();
  }
}

TEST(WinRateEstimate, ExpectsAtLeastTheVariance) {
  // Efron and Stein, for every procedure and exactly: over all samples of N + 1.
  std::mt19937_64 engine(11);
  for (std::int64_t n : {1, 2, 3}) {
    const auto samples = static_cast<std::size_t>(n + 1);
    for (const Procedure& procedure : small_procedures(n)) {
      const SmallPolicy policy = random_policy(3, engine), reference = random_policy(3, engine);
      const double mean = exact_win_rate(procedure, policy, reference);
      const double estimated =
          expected(policy, samples, reference, samples, [&](const auto& ours, const auto& theirs) {
            const Estimate estimate = win_rate_estimate(procedure, ours, theirs);
            EXPECT_NEAR(estimate.value, win_rate(procedure, ours, theirs), 1e-14);
            return estimate.variance;
          });
      const double variance =
          expected(policy, samples, reference, samples, [&](const auto& ours, const auto& theirs) {
            return std::pow(win_rate(procedure, ours, theirs) - mean, 2);
          });
      EXPECT_GE(estimated, variance * (1 - 1e-9)) << describe(procedure);
    }
  }
}

TEST(WinRateEstimate, IsTheJackknife) {
  // Recomputed without each sample in turn, for closed forms, rules and a mixture of both.
  std::mt19937_64 engine(12);
  const auto ours = drawn_with_ties(7, 5, engine), ours_judged = drawn_with_ties(7, 4, engine);
  const auto theirs = drawn_with_ties(6, 5, engine), theirs_judged = drawn_with_ties(6, 4, engine);
  const std::vector<std::int64_t> our_answers{0, 1, 1, 2, 0, 0, 2}, their_answers{1, 1, 0, 2, 0, 1};
  const auto without = []<class T>(std::vector<T> values, std::size_t i) {
    values.erase(values.begin() + static_cast<std::ptrdiff_t>(i));
    return values;
  };
  const Procedure best = make_procedure("best_of_n", 3), vote = make_procedure("majority_vote", 2);
  const Deployment deployments[] = {best, vote, Deployment({{0.4, best, vote}, {0.6, vote, best}})};
  for (const Deployment& deployment : deployments) {
    const ScoredSamples policy{ours, ours_judged, our_answers},
        reference{theirs, theirs_judged, their_answers};
    const double whole = win_rate(deployment, policy, reference);
    double variance = 0;
    for (std::size_t i = 0; i < 7; ++i) {
      const auto a = without(ours, i), b = without(ours_judged, i);
      const auto c = without(our_answers, i);
      variance += 6.0 / 7 * std::pow(win_rate(deployment, {a, b, c}, reference) - whole, 2);
    }
    for (std::size_t j = 0; j < 6; ++j) {
      const auto a = without(theirs, j), b = without(theirs_judged, j);
      const auto c = without(their_answers, j);
      variance += 5.0 / 6 * std::pow(win_rate(deployment, policy, {a, b, c}) - whole, 2);
    }
    EXPECT_NEAR(win_rate_estimate(deployment, policy, reference).variance, variance, 1e-13)
        << deployment.name();
  }
}

TEST(WinRateEstimate, NeedsMoreSamplesThanCandidates) {
  const std::vector<float> two{1, 2}, three{1, 2, 3};
  const Procedure best = make_procedure("best_of_n", 2);
  EXPECT_THROW(win_rate_estimate(best, {two, two}, {three, three}), std::invalid_argument);
  EXPECT_THROW(win_rate_estimate(best, {three, three}, {two, two}), std::invalid_argument);
  EXPECT_NO_THROW(win_rate_estimate(best, {three, three}, {three, three}));
}

TEST(WinRate, RandomSubsetsFollowTheSeed) {
  // 60 over 5 is more than can be visited. Exact by the ranks that the rule hides; the deviation of one
  // estimate over subsets is below 0.01, so 0.05 is never missed.
  std::mt19937_64 engine(13);
  const Sides sides(60, engine);
  const Procedure best = make_procedure("best_of_n", 5);
  const Procedure rule = procedure_from_rule("rule", 5, best.rule);
  const ScoredSamples ours{sides.ours, sides.ours}, theirs{sides.theirs, sides.theirs};
  EXPECT_EQ(win_rate(rule, ours, theirs, 1), win_rate(rule, ours, theirs, 1));
  EXPECT_NE(win_rate(rule, ours, theirs, 1), win_rate(rule, ours, theirs, 2));
  EXPECT_NEAR(win_rate(rule, ours, theirs, 1), win_rate(best, ours, theirs), 0.05);
}

TEST(WinRate, RefusesNaNUnequalSpansAndTooFewSamples) {
  const std::vector<float> good{1, 2}, bad{1, std::nanf("")}, longer{1, 2, 3};
  const std::vector<std::int64_t> answers{1, 2, 3};
  const Procedure procedure = make_procedure("best_of_n", 2);
  EXPECT_THROW(win_rate(procedure, {bad, good}, {good, good}), std::domain_error);
  EXPECT_THROW(win_rate(procedure, {good, good}, {good, bad}), std::domain_error);
  EXPECT_THROW(win_rate(procedure, {good, longer}, {good, good}), std::invalid_argument);
  EXPECT_THROW(win_rate(procedure, {good, good, answers}, {good, good}), std::invalid_argument);
  EXPECT_THROW(win_rate(make_procedure("best_of_n", 3), {longer, longer}, {good, good}),
               std::invalid_argument);
  EXPECT_THROW(answer_reward(procedure, {good, bad}), std::domain_error);
  EXPECT_THROW(answer_reward(make_procedure("pass_at_n", 3), {good, good}), std::invalid_argument);
  EXPECT_THROW(win_rate_estimate(procedure, {longer, longer}, {longer, {}}), std::invalid_argument);
}

TEST(Bootstrap, IsTheSameForTheSameSeedAndCoversTheMean) {
  std::mt19937_64 engine(11);
  std::normal_distribution<double> normal(3, 1);
  std::vector<double> values(400);
  for (double& value : values) value = normal(engine);
  const Interval95 interval = bootstrap_mean(values, 5);
  const Interval95 again = bootstrap_mean(values, 5), other = bootstrap_mean(values, 6);
  EXPECT_EQ(interval.low, again.low);
  EXPECT_EQ(interval.high, again.high);
  EXPECT_NE(interval.low, other.low);
  EXPECT_NEAR(interval.value, std::accumulate(values.begin(), values.end(), 0.0) / 400, 1e-12);
  // 95 % of a mean's distribution is 2 * 1.96 standard errors wide; 2,000 resamples give its ends to a few
  // per cent.
  EXPECT_NEAR(interval.high - interval.low, 2 * 1.96 / 20, 0.03);
  EXPECT_LT(interval.low, interval.value);
  EXPECT_GT(interval.high, interval.value);
}

TEST(Bootstrap, CoversTheTruthAsOftenAsItSays) {
  // 300 experiments, nominal coverage 0.95 (0.94 for the percentile bootstrap at n = 60): outside [0.88,
  // 0.99] with probability below 1e-4.
  std::mt19937_64 engine(12);
  std::uniform_real_distribution<double> uniform;
  int covered = 0;
  for (int experiment = 0; experiment < 300; ++experiment) {
    std::vector<double> values(60);
    for (double& value : values) value = uniform(engine);
    const Interval95 interval = bootstrap_mean(values, 1, 400);
    covered += interval.low <= 0.5 && 0.5 <= interval.high;
  }
  EXPECT_GE(covered, 264);
  EXPECT_LE(covered, 297);
}

// The examples of Newcombe 1998, Statistics in Medicine 17, table I, method 3.
TEST(Share, HasWilsonsInterval) {
  struct Example {
    double successes, n, low, high;
  };
  for (const auto& [successes, n, low, high] : {Example{81, 263, 0.2553, 0.3662},
                                                {15, 148, 0.0624, 0.1605},
                                                {0, 20, 0, 0.1611},
                                                {1, 29, 0.0061, 0.1718}}) {
    const auto share = share_of(successes, n);
    EXPECT_EQ(share.value, successes / n);
    EXPECT_NEAR(share.low, low, 5e-5);
    EXPECT_NEAR(share.high, high, 5e-5);
  }
}

TEST(Share, RefusesWhatIsNone) {
  EXPECT_THROW(share_of(0, 0), std::invalid_argument);
  EXPECT_THROW(share_of(3, 2), std::invalid_argument);
  EXPECT_THROW(share_of(-1, 2), std::invalid_argument);
}

TEST(Bootstrap, RefusesWhatHasNoMean) {
  EXPECT_THROW(bootstrap_mean({}), std::invalid_argument);
  EXPECT_THROW(bootstrap_mean(std::vector<double>{1, std::nan("")}), std::domain_error);
  EXPECT_THROW(bootstrap_mean(std::vector<double>{1}, 1, 0), std::invalid_argument);
  const Interval95 single = bootstrap_mean(std::vector<double>{0.25});
  EXPECT_EQ(single.low, 0.25);
  EXPECT_EQ(single.high, 0.25);
}

TEST(UniformityDistance, IsZeroForCalibratedTiesAndLargeForAShift) {
  EXPECT_NEAR(uniformity_distance(std::vector<double>{0.125, 0.375, 0.625, 0.875}), 0, 1e-15);
  // A verifier: 6 of 8 wrong (C = 3/8), 2 right (C = 7/8). Perfectly calibrated, and not uniform.
  EXPECT_NEAR(uniformity_distance(std::vector<double>{.375, .375, .375, .375, .375, .375, .875, .875}), 0,
              1e-15);
  EXPECT_NEAR(uniformity_distance(std::vector<double>{0.9, 0.9, 0.9}), 0.4, 1e-15);
  EXPECT_THROW(uniformity_distance(std::vector<double>{1.1}), std::domain_error);
  EXPECT_THROW(uniformity_distance(std::vector<double>{std::nan("")}), std::domain_error);
  EXPECT_THROW(uniformity_distance({}), std::invalid_argument);
}

TEST(RankCorrelation, SeesTheOrderAlone) {
  const std::vector<float> a = {1, 2, 3, 4, 5}, monotone = {-9, 0, 0.5f, 100, 101}, b = {2, 1, 4, 3, 5};
  EXPECT_NEAR(rank_correlation(a, monotone), 1, 1e-12);
  EXPECT_NEAR(rank_correlation(a, std::vector<float>{5, 4, 3, 2, 1}), -1, 1e-12);
  EXPECT_NEAR(rank_correlation(a, b), 1 - 6 * 4.0 / (5 * 24), 1e-12);  // 1 - 6 sum d^2 / n (n^2 - 1)
  EXPECT_NEAR(rank_correlation(std::vector<float>{1, 1, 2}, std::vector<float>{1, 2, 3}), std::sqrt(0.75),
              1e-12);
  EXPECT_TRUE(std::isnan(rank_correlation(a, std::vector<float>(5, 1.0f))));
  EXPECT_THROW(rank_correlation(a, std::vector<float>{1}), std::invalid_argument);
}

}  // namespace
}  // namespace infalign::alignment
