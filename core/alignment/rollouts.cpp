#include "core/alignment/rollouts.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <random>
#include <stdexcept>
#include <vector>

#include "core/alignment/order_statistics.h"
#include "core/alignment/quadrature.h"
#include "core/alignment/theory.h"

namespace infalign::alignment {
namespace {

/// C itself, and Phi of it. Logit and normal are infinite at C = 1: so many rollouts stand for it.
TransformSettings exact(TransformSettings transform) {
  constexpr std::int64_t kPlenty = std::int64_t{1} << 20;
  const bool unbounded = transform.kind == TransformKind::kLogit || transform.kind == TransformKind::kNormal;
  transform.rollouts = unbounded ? kPlenty : 0;
  return transform;
}

TransformAt transform_of(const TransformSettings& transform, const Deployment& deployment) {
  return [transform, &deployment](double beta) { return make_transform(transform, deployment, beta); };
}

Prediction exact_at_kl(const TransformSettings& transform, const Deployment& deployment, double kl) {
  return transform.kind == TransformKind::kOptimal
             ? predict_optimal_at_kl(deployment, kl)
             : predict_at_kl(transform_of(exact(transform), deployment), deployment, kl);
}

/// What a policy reaches on average over the rollouts, at any beta.
class Trained {
 public:
  Trained(const TransformSettings& transform, const Deployment& deployment, std::int64_t rollouts)
      : transform_(transform), deployment_(deployment), rollouts_(rollouts) {
    if (rollouts < 1) throw std::invalid_argument("at least one rollout is needed");
    transform_.rollouts = rollouts;
  }
  virtual ~Trained() = default;
  virtual double kl(double beta) const = 0;
  virtual double win_rate(double beta) const = 0;

 protected:
  /// Phi(i/K), i = 0..K.
  std::vector<double> levels(double beta) const {
    const auto phi = make_transform(transform_, deployment_, beta);
    std::vector<double> level;
    for (std::int64_t i = 0; i <= rollouts_; ++i)
      level.push_back(phi(static_cast<double>(i) / static_cast<double>(rollouts_)));
    return level;
  }

  TransformSettings transform_;
  const Deployment& deployment_;
  std::int64_t rollouts_;
};

class TrainedOnFresh : public Trained {
 public:
  using Trained::Trained;
  double kl(double beta) const override { return policy(beta).kl(); }
  double win_rate(double beta) const override { return policy(beta).win_rate(deployment_); }

 private:
  OptimalPolicy policy(double beta) const { return {BernsteinPolynomial(levels(beta)), beta}; }
};

/// A sample of prompts, each with the K + 1 gaps between its rollouts: exponential numbers divided by their
/// sum. The same at every beta, so that the KL is a smooth function of it.
class TrainedOnFixed : public Trained {
 public:
  TrainedOnFixed(const TransformSettings& transform, const Deployment& deployment, std::int64_t rollouts)
      : Trained(transform, deployment, rollouts) {
    constexpr std::int64_t kGaps = 131'072, kFewestPrompts = 64;
    constexpr std::uint64_t kSeed = 1;
    std::mt19937_64 engine(kSeed);
    prompts_ = static_cast<std::size_t>(std::max(kFewestPrompts, kGaps / rollouts));
    const std::size_t steps = static_cast<std::size_t>(rollouts) + 1;
    gap_.resize(prompts_ * steps);
    for (std::size_t prompt = 0; prompt < prompts_; ++prompt) {
      double whole = 0;
      for (std::size_t i = 0; i < steps; ++i) {
        const double uniform = (static_cast<double>(engine() >> 11) + 0.5) * 0x1p-53;
        whole += gap_[prompt * steps + i] = -std::log(uniform);
      }
      for (std::size_t i = 0; i < steps; ++i) gap_[prompt * steps + i] /= whole;
    }
  }

  double kl(double beta) const override {
    const Stairs stairs(levels(beta), beta);
    double sum = 0;
    for (std::size_t prompt = 0; prompt < prompts_; ++prompt) {
      const double* gap = &gap_[prompt * stairs.log_density.size()];
      double mass = 0, energy = 0;
      for (std::size_t i = 0; i < stairs.log_density.size(); ++i) {
        const double own = gap[i] * stairs.density[i];
        mass += own;
        energy += own * stairs.log_density[i];
      }
      sum += energy / mass - std::log(mass);
    }
    return sum / static_cast<double>(prompts_);
  }

  double win_rate(double beta) const override {
    const Stairs stairs(levels(beta), beta);
    double sum = 0;
    for (std::size_t prompt = 0; prompt < prompts_; ++prompt)
      sum += win_rate(stairs, &gap_[prompt * stairs.log_density.size()]);
    return sum / static_cast<double>(prompts_);
  }

 private:
  /// Relative to the top, which has density 1: log 0 for what vanishes beside it would only disturb.
  struct Stairs {
    Stairs(const std::vector<double>& level, double beta) {
      constexpr double kVanished = -700;
      for (double phi : level) {
        log_density.push_back(std::max((phi - level.back()) / beta, kVanished));
        density.push_back(std::exp(log_density.back()));
      }
    }
    std::vector<double> log_density, density;
  };

  /// 1 - integral of H(G(u)) h(u) du, G piecewise linear.
  double win_rate(const Stairs& stairs, const double* gap) const {
    // Two Gauss nodes are enough for a narrow step, the panel's own rule is for one that holds much.
    constexpr double kNarrow = 0.02;
    constexpr double kTwoNodes[] = {0.21132486540518712, 0.78867513459481288};
    const PanelRule& rule = panel_rule();
    double mass = 0;
    for (std::size_t i = 0; i < stairs.density.size(); ++i) mass += gap[i] * stairs.density[i];
    double u = 0, G = 0, lost = 0;
    for (std::size_t i = 0; i < stairs.density.size(); ++i) {
      const double width = gap[i], rise = gap[i] * stairs.density[i] / mass;
      if (std::max(width, rise) < kNarrow) {
        for (double t : kTwoNodes) lost += 0.5 * width * lost_at(u + t * width, G + t * rise);
      } else {
        for (std::size_t k = 0; k < PanelRule::kNodes; ++k)
          lost += rule.weight[k] * width * lost_at(u + rule.node[k] * width, G + rule.node[k] * rise);
      }
      u += width, G += rise;
    }
    return 1 - lost;
  }
  double lost_at(double u, double G) const {
    double sum = 0;
    for (const Matchup& matchup : deployment_.matchups())
      sum += matchup.share * matchup.policy.cumulative(std::min(G, 1.0)) *
             matchup.opponent.density(std::min(u, 1.0));
    return sum;
  }

  std::size_t prompts_ = 0;
  std::vector<double> gap_;  // [prompts, K + 1]
};

template <class Use>
auto with_trained(const TransformSettings& transform, const Deployment& deployment, std::int64_t rollouts,
                  Rollouts kind, const Use& use) {
  if (!deployment.is_calibrated()) {
    throw std::invalid_argument("the choice of " + deployment.name() +
                                " does not follow from ranks: no win rate in closed form");
  }
  return kind == Rollouts::kFixed ? use(TrainedOnFixed(transform, deployment, rollouts))
                                  : use(TrainedOnFresh(transform, deployment, rollouts));
}

std::optional<RolloutsLoss> loss_against(const Prediction& exact, const TransformSettings& transform,
                                         const Deployment& deployment, std::int64_t rollouts, Rollouts kind) {
  constexpr double kTolerance = 1e-5;
  const auto at_kl = [&](const Trained& trained) -> std::optional<RolloutsLoss> {
    double beta = 0;
    try {
      beta = beta_at_kl([&](double b) { return trained.kl(b); }, exact.kl, {exact.beta, kTolerance});
    } catch (const std::runtime_error&) {
      return std::nullopt;
    }
    const double win_rate = trained.win_rate(beta);
    return RolloutsLoss{rollouts, beta, trained.kl(beta), win_rate, exact.inference_win_rate - win_rate};
  };
  return with_trained(transform, deployment, rollouts, kind, at_kl);
}

}  // namespace

double harmonic_number(std::int64_t rollouts) {
  if (rollouts < 1) throw std::invalid_argument("at least one rollout is needed");
  double sum = 0;
  for (std::int64_t k = rollouts; k >= 1; --k) sum += 1 / static_cast<double>(k);
  return sum;
}

RolloutsLoss rollouts_loss(const TransformSettings& transform, const Deployment& deployment, double beta,
                           std::int64_t rollouts, Rollouts kind) {
  const double best =
      predict(transform_of(exact(transform), deployment), deployment, beta).inference_win_rate;
  const auto at_beta = [&](const Trained& trained) {
    const double win_rate = trained.win_rate(beta);
    return RolloutsLoss{rollouts, beta, trained.kl(beta), win_rate, best - win_rate};
  };
  return with_trained(transform, deployment, rollouts, kind, at_beta);
}

std::optional<RolloutsLoss> rollouts_loss_at_kl(const TransformSettings& transform,
                                                const Deployment& deployment, double kl,
                                                std::int64_t rollouts, Rollouts kind) {
  return loss_against(exact_at_kl(transform, deployment, kl), transform, deployment, rollouts, kind);
}

std::optional<RolloutsLoss> recommended_rollouts(const TransformSettings& transform,
                                                 const Deployment& deployment, double kl, Rollouts kind,
                                                 double most_lost) {
  constexpr std::int64_t kFewest = 8, kMost = 4096;
  const Prediction exact = exact_at_kl(transform, deployment, kl);
  for (std::int64_t rollouts = kFewest; rollouts <= kMost; rollouts *= 2) {
    const auto reached = loss_against(exact, transform, deployment, rollouts, kind);
    if (reached && reached->loss <= most_lost) return reached;
  }
  return std::nullopt;
}

}  // namespace infalign::alignment
