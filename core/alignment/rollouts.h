// What calibrating with K rollouts per prompt costs. Training sees Phi(C_hat), C_hat the rank among K
// rollouts of the reference, in place of Phi(C). Rollouts are uniform in u = C whatever the model, so this
// too is known before a model is loaded: how much inference-time win rate is lost at a KL, and how large K
// has to be.
#pragma once

#include <cstdint>
#include <optional>

#include "core/alignment/deployment.h"
#include "core/alignment/transform.h"

namespace infalign::alignment {

/// Fixed: the same K rollouts of a prompt at every visit. A policy that fits its reward perfectly becomes p
/// proportional to exp(Phi(i/K)/beta) between the i-th and the next of them: a staircase. Since its highest
/// step is the last, KL <= -log(1 - largest rollout), on average at most H_K = 1 + 1/2 + ... + 1/K. Policies
/// too stiff to learn each prompt's stairs lose less.
/// Fresh: K new ones at each visit. The policy gradient averages over them, so that the policy is optimal for
/// the average E[Phi(C_hat) | C = u] = sum over m of C(K, m) u^m (1-u)^(K-m) Phi(m/K), a Bernstein
/// polynomial; for e^(tu) it is (1 - u + u e^(t/K))^K.
enum class Rollouts { kFixed, kFresh };

/// H_K, the most KL (nats) that K fixed rollouts carry on average. Errors: std::invalid_argument for K < 1.
double harmonic_number(std::int64_t rollouts);

struct RolloutsLoss {
  std::int64_t rollouts = 0;  // K
  double beta = 0, kl = 0, inference_win_rate = 0;
  double loss = 0;  // of inference win rate, against the same transform of the exact C
};

/// At beta, against the exact C at the same beta. Fixed rollouts are averaged over a seeded sample of
/// prompts; the standard error of their win rate is about 0.001. Errors: std::invalid_argument for K < 1,
/// those of make_transform, and those of Deployment's win rates.
RolloutsLoss rollouts_loss(const TransformSettings& transform, const Deployment& deployment, double beta,
                           std::int64_t rollouts, Rollouts kind);
/// At the beta that gives this KL on average, against the exact C at the same KL; nothing if so few rollouts
/// do not reach it. Errors: also std::runtime_error if the exact C does not.
std::optional<RolloutsLoss> rollouts_loss_at_kl(const TransformSettings& transform,
                                                const Deployment& deployment, double kl,
                                                std::int64_t rollouts, Rollouts kind);

/// The smallest power of two from 8 to 4,096 that loses no more than `most_lost` of the inference win rate at
/// this KL; nothing if none does.
std::optional<RolloutsLoss> recommended_rollouts(const TransformSettings& transform,
                                                 const Deployment& deployment, double kl, Rollouts kind,
                                                 double most_lost = 0.005);

}  // namespace infalign::alignment
