// What two Gaussians of equal covariance at Mahalanobis distance D can tell apart: nats, (epsilon, delta), advantage.
#pragma once

namespace palimpsest {

// D is |a - b| in the metric of the inverse covariance, so KL(N(a, S) || N(b, S)) = D^2 / 2 in both directions.
// Everything a report prints is rounded towards the cautious side: epsilon, nats and advantage up, distances down.

// ln delta with delta(epsilon; D) = Phi(D/2 - epsilon/D) - e^epsilon Phi(-D/2 - epsilon/D), the exact and tight curve
// of Balle and Wang 2018, Theorem 8; epsilon >= 0 without an upper limit, D >= 0 (D = 0: -infinity).
// |error| <= log_delta_error(ln delta).
double log_delta(double epsilon, double distance);

// A bound on the error of log_delta where it returned `value`.
double log_delta_error(double value);

// delta itself, in [0, 1], rounded up: 0 only where D = 0, ln delta < -1e299, or epsilon / D is so large that adding D
// does not change it.
double delta_of(double epsilon, double distance);

// The least epsilon >= 0 with delta(epsilon; D) <= delta, rounded up; delta in (0, 1).
double epsilon_of(double distance, double delta);

// The largest D with delta(epsilon; D) <= delta, rounded down; epsilon >= 0, delta in (0, 1).
double distance_of(double epsilon, double delta);

// D^2 / 2, rounded up.
double nats_of(double distance);

// sqrt(2 nats), rounded down: nats_of(distance_of_nats(x)) <= x from 1e-290 on.
double distance_of_nats(double nats);

// Largest true-positive rate minus false-positive rate of any test: erf(sqrt(nats) / 2), rounded up, in [0, 1].
double advantage(double nats);

}  // namespace palimpsest
