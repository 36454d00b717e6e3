// ChaCha20 against RFC 8439, the normal sampler against the normal law, and the exactness of noise on its grid.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "check.h"
#include "core/parallel.h"
#include "unlearn/chacha20.h"
#include "unlearn/gaussian_sampler.h"
#include "unlearn/grid_noise.h"

using namespace palimpsest;

namespace {

std::string hex_block(const std::array<uint8_t, 32>& key, uint32_t counter, const std::array<uint32_t, 3>& nonce,
                      size_t which) {
  std::array<uint32_t, 64> words;
  chacha20_blocks(SecretKey(key).words(), counter, nonce, words);
  std::string text;
  for (size_t i = 0; i < 64; ++i) {
    char byte[3];
    std::snprintf(byte, sizeof byte, "%02x", (words[16 * which + i / 4] >> (8 * (i % 4))) & 0xff);
    text += byte;
  }
  return text;
}

double normal_cdf(double x) { return 0.5 * std::erfc(-x * std::sqrt(0.5)); }

const std::vector<double>& deviates() {
  static const std::vector<double> values = [] {
    std::vector<double> x(2'000'000);
    fill_normal(SecretKey::from_seed(20240601), 0, x);
    return x;
  }();
  return values;
}

// chi^2 of counts of Phi(scale x) over equally probable cells.
double chi_square(const std::vector<double>& x, double scale, size_t cells) {
  std::vector<double> count(cells, 0.0);
  for (const double value : x) {
    ++count[std::min(cells - 1, static_cast<size_t>(normal_cdf(scale * value) * double(cells)))];
  }
  const double expected = double(x.size()) / double(cells);
  double sum = 0;
  for (const double c : count) sum += (c - expected) * (c - expected) / expected;
  return sum;
}

// Between four standard deviations below and above the mean of chi^2 with that many cells.
bool plausible(double chi2, size_t cells) {
  const double freedom = double(cells - 1);
  return std::fabs(chi2 - freedom) < 4 * std::sqrt(2 * freedom);
}

// Words given one by one; counts how many were taken.
struct Script {
  std::vector<uint64_t> words;
  size_t taken = 0;
  uint64_t operator()() {
    if (taken == words.size()) throw Error(ErrorCode::internal, "the script is at its end");
    return words[taken++];
  }
};

constexpr uint64_t kLargest = std::numeric_limits<uint64_t>::max();

}  // namespace

TEST(chacha20_blocks_are_those_of_rfc_8439) {
  std::array<uint8_t, 32> zero{}, counting{}, last_one{}, second_ff{};
  for (size_t i = 0; i < 32; ++i) counting[i] = static_cast<uint8_t>(i);
  last_one[31] = 1;
  second_ff[1] = 0xff;
  // Section 2.3.2, nonce 00:00:00:09:00:00:00:4a:00:00:00:00, counter 1.
  CHECK(hex_block(counting, 1, {0x09000000, 0x4a000000, 0}, 0) ==
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e");
  // Appendix A.1, vectors 1 to 5.
  const std::string first =
      "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
      "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586";
  const std::string second =
      "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
      "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f";
  CHECK(hex_block(zero, 0, {0, 0, 0}, 0) == first);
  CHECK(hex_block(zero, 1, {0, 0, 0}, 0) == second);
  CHECK(hex_block(zero, 0, {0, 0, 0}, 1) == second);  // the next lane is the next counter
  CHECK(hex_block(zero, 0xfffffffe, {0, 0, 0}, 3) == second);
  CHECK(hex_block(last_one, 1, {0, 0, 0}, 0) ==
        "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a"
        "8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0");
  CHECK(hex_block(second_ff, 2, {0, 0, 0}, 0) ==
        "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca"
        "13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096");
  CHECK(hex_block(zero, 0, {0, 0, 0x02000000}, 0) ==
        "c2c64d378cd536374ae204b9ef933fcd1a8b2288b3dfa49672ab765b54ee27c7"
        "8a970e0e955c14f3a88e741b97c286f75f8fc299e8148362fa198a39531bed6d");
}

TEST(chacha20_stream_is_the_blocks_in_order) {
  const SecretKey key = SecretKey::from_seed(7);
  ChaCha20 stream(key, 0x500000003);
  std::array<uint32_t, 64> words;
  bool same = true;
  for (uint32_t counter = 0; counter < 12; counter += 4) {
    chacha20_blocks(key.words(), counter, {0, 3, 5}, words);
    for (size_t i = 0; i < 64; i += 2) same = same && stream() == (words[i] | (uint64_t{words[i + 1]} << 32));
  }
  CHECK(same);
  std::set<uint64_t> starts;
  for (uint64_t s = 0; s < 50; ++s) starts.insert(ChaCha20(key, s)());
  for (uint64_t s = 0; s < 50; ++s) starts.insert(ChaCha20(SecretKey::from_seed(100 + s), 0)());
  CHECK(starts.size() == 100);
}

TEST(secret_keys_from_the_system_differ) {
  std::set<std::array<uint32_t, 8>> keys;
  std::set<uint32_t> words;
  for (int i = 0; i < 64; ++i) {
    const SecretKey key = SecretKey::from_system();
    keys.insert(key.words());
    words.insert(key.words().begin(), key.words().end());
  }
  CHECK(keys.size() == 64);
  CHECK(words.size() > 500);  // 512 words; two equal ones have probability 3e-5
}

TEST(wide_product_is_exact) {
  CHECK(wide_product(kLargest, kLargest).high == kLargest - 1);
  CHECK(wide_product(kLargest, kLargest).low == 1);
  ChaCha20 words(SecretKey::from_seed(3), 0);
  bool right = true;
  for (int i = 0; i < 10000; ++i) {
    const uint64_t a = words() >> (words() % 64), b = words() >> (words() % 64);
    WideProduct sum{0, 0};  // a 2^bit for every bit of b, with the carry
    for (int bit = 0; bit < 64; ++bit) {
      if (((b >> bit) & 1) == 0) continue;
      const uint64_t low = sum.low + (a << bit);
      sum.high += (bit > 0 ? a >> (64 - bit) : 0) + (low < sum.low ? 1 : 0);
      sum.low = low;
    }
    const WideProduct product = wide_product(a, b);
    right = right && product.low == sum.low && product.high == sum.high;
  }
  CHECK(right);
}

TEST(normal_deviates_have_the_moments_of_the_normal_law) {
  const std::vector<double>& x = deviates();
  const double n = double(x.size());
  double moment[7] = {};
  double neighbours = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    double power = 1;
    for (int k = 1; k <= 6; ++k) moment[k] += (power *= x[i]) / n;
    if (i > 0) neighbours += x[i] * x[i - 1] / n;
  }
  // Standard deviation of a sample moment: sqrt((E x^2k - (E x^k)^2)/n).
  CHECK_NEAR(moment[1], 0, 4 * std::sqrt(1 / n));
  CHECK_NEAR(moment[2], 1, 4 * std::sqrt(2 / n));
  CHECK_NEAR(moment[3], 0, 4 * std::sqrt(15 / n));
  CHECK_NEAR(moment[4], 3, 4 * std::sqrt(96 / n));
  CHECK_NEAR(moment[6], 15, 4 * std::sqrt((10395 - 225) / n));
  CHECK_NEAR(neighbours, 0, 4 * std::sqrt(1 / n));
}

TEST(normal_deviates_fill_cells_evenly) {
  for (const size_t cells : {16, 256, 4096}) {
    CHECK(plausible(chi_square(deviates(), 1, cells), cells));
    CHECK_CAN_FAIL(plausible(chi_square(deviates(), 1.02, cells), cells));
  }
}

TEST(normal_deviates_have_both_tails) {
  const std::vector<double>& x = deviates();
  for (const double from : {1.0, 2.0, 3.0, 4.0, 4.5}) {
    const double expected = double(x.size()) * normal_cdf(-from);
    const double above = double(std::count_if(x.begin(), x.end(), [&](double v) { return v > from; }));
    const double below = double(std::count_if(x.begin(), x.end(), [&](double v) { return v < -from; }));
    CHECK_NEAR(above, expected, 4 * std::sqrt(expected));
    CHECK_NEAR(below, expected, 4 * std::sqrt(expected));
  }
  // Nothing stops the tail: ten geometric successes, 45 acceptances, a fraction, eleven chains that end at once.
  for (const uint64_t sign : {0, 1}) {
    Script script;
    script.words.assign(10, 0);
    script.words.push_back(kLargest);
    script.words.insert(script.words.end(), 45, 0);
    script.words.push_back((uint64_t{1} << 63) | sign);
    script.words.insert(script.words.end(), 11, kLargest);
    const NormalDeviate deviate = draw_normal(script);
    CHECK(script.taken == script.words.size());
    CHECK(deviate.value() == (sign ? -10.5 : 10.5));
  }
}

TEST(normal_sampler_takes_its_steps_with_the_right_probabilities) {
  ChaCha20 words(SecretKey::from_seed(11), 0);
  const int trials = 200'000;
  for (const uint32_t k : {0u, 1u, 2u, 5u, 9u, 12u}) {
    for (const double x : {0.01, 0.3, 0.75, 0.999}) {
      const uint64_t fraction = static_cast<uint64_t>(std::ldexp(x, 64)) | 1;
      int accepted = 0;
      for (int i = 0; i < trials; ++i) accepted += accept_fraction(words, k, fraction);
      const double p = std::exp(-x * (2 * k + x) / (2 * k + 2));
      CHECK_NEAR(accepted / double(trials), p, 4.5 * std::sqrt(p * (1 - p) / trials));
    }
  }
  for (uint64_t k = 0; k < 13; ++k) {  // k successes, a failure, k (k - 1)/2 acceptances
    Script script;
    script.words.assign(200, 0);
    script.words[k] = kLargest;
    CHECK(draw_integer_part(script) == k);
    CHECK(script.taken == k + 1 + k * (k > 0 ? k - 1 : 0) / 2);
  }
  double total = 0;
  for (int k = 0; k < 40; ++k) total += std::exp(-0.5 * k * k);
  std::vector<double> count(60, 0.0);
  for (int i = 0; i < trials; ++i) ++count[draw_integer_part(words)];
  for (int k = 0; k < 4; ++k) {
    const double p = std::exp(-0.5 * k * k) / total;
    CHECK_NEAR(count[size_t(k)] / trials, p, 4 * std::sqrt(p * (1 - p) / trials));
  }
}

TEST(normal_deviates_are_the_same_on_any_threads) {
  const SecretKey key = SecretKey::from_seed(5);
  std::vector<double> one(3 * kNormalChunk + 17), three(one.size());
  parallel_threads() = 1;
  CHECK(fill_normal(key, 9, one) == 13);
  parallel_threads() = 3;
  CHECK(fill_normal(key, 9, three) == 13);
  parallel_threads() = 0;
  CHECK(std::memcmp(one.data(), three.data(), one.size() * sizeof(double)) == 0);
  GaussianSampler second(key, 10);
  CHECK(one[kNormalChunk] == second.next());
  CHECK(one[0] != one[kNormalChunk]);
}

TEST(noise_grid_is_a_power_of_two_fixed_by_scale_and_size) {
  CHECK(noise_grid(1, 1000).spacing == 0x1p-16);
  CHECK(noise_grid(std::nextafter(1.0, 0.0), 1000).spacing == 0x1p-17);
  CHECK(noise_grid(1.999, 10'000'000).spacing == 0x1p-16);
  CHECK(noise_grid(1.999, 10'000'001).spacing == 0x1p-20);
  CHECK(noise_grid(1e-3, 1).spacing == 0x1p-26);
  CHECK(noise_grid(1e-3, 1).scale == 1e-3);
  for (const double bad : {0.0, -1.0, std::nan(""), double(INFINITY), 1e-300}) {
    CHECK_THROWS(ErrorCode::invalid_argument, noise_grid(bad, 10));
  }
  CHECK_THROWS(ErrorCode::invalid_argument, noise_grid(1, 0));
}

TEST(noise_steps_are_the_rounded_real_product) {
  ChaCha20 words(SecretKey::from_seed(21), 0);
  int compared = 0;
  bool right = true;
  for (const double scale : {1.0, 1e-3, 0.7, 1.9999, 3.3e-7}) {
    for (const int64_t parameters : {int64_t{1000}, int64_t{20'000'000}}) {
      const NoiseGrid grid = noise_grid(scale, parameters);
      for (int i = 0; i < 5000; ++i) {
        const NormalDeviate deviate = draw_normal(words);
        const long double size = deviate.integer + static_cast<long double>(deviate.fraction) * 0x1p-64L;
        const long double steps = size * (static_cast<long double>(scale) / grid.spacing);
        if (std::fabs(steps - std::floor(steps) - 0.5L) < 1e-6L) continue;  // too near for long double to decide
        const int64_t expected = static_cast<int64_t>(std::floor(steps + 0.5L));
        right = right && noise_steps(deviate, grid) == (deviate.negative ? -expected : expected);
        ++compared;
      }
    }
  }
  CHECK(right);
  CHECK(compared > 49'900);
  CHECK(noise_steps({true, 12, 1}, noise_grid(1, 10)) == -12 * 65536);
}

TEST(noise_steps_are_even_over_the_low_bits) {
  const NoiseGrid grid = noise_grid(0.83, 1000);
  ChaCha20 words(SecretKey::from_seed(22), 0);
  std::vector<double> count(64, 0.0);
  const int draws = 400'000;
  for (int i = 0; i < draws; ++i) ++count[static_cast<size_t>(noise_steps(draw_normal(words), grid) & 63)];
  double chi2 = 0;
  for (const double c : count) chi2 += (c - draws / 64.0) * (c - draws / 64.0) / (draws / 64.0);
  CHECK(plausible(chi2, 64));
}

TEST(grid_noise_is_exact_and_independent_of_the_mean) {
  const size_t n = 40'000;
  const NoiseGrid grid = noise_grid(1e-3, int64_t(n));
  std::vector<double> mean(n), far(n), zero(n, 0.0);
  for (size_t i = 0; i < n; ++i) {
    mean[i] = std::sin(double(i)) * 3;
    far[i] = std::cos(double(i)) * 1e5;
  }
  round_to_grid(mean, grid);
  round_to_grid(far, grid);
  std::vector<double> sums = mean, far_sums = far;
  const SecretKey key = SecretKey::from_seed(31);
  GridNoise(grid, key).add(sums);
  GridNoise(grid, key).add(far_sums);
  GridNoise(grid, key).add(zero);
  bool whole = true, same = true, back = true;
  double square = 0;
  for (size_t i = 0; i < n; ++i) {
    whole = whole && std::nearbyint(zero[i] / grid.spacing) == zero[i] / grid.spacing;
    // Exact sums: what was added is the same whatever it was added to, and comes off again without a remainder.
    same = same && sums[i] - mean[i] == zero[i] && far_sums[i] - far[i] == zero[i];
    back = back && sums[i] - zero[i] == mean[i];
    square += zero[i] * zero[i];
  }
  CHECK(whole);
  CHECK(same);
  CHECK(back);
  CHECK_NEAR(std::sqrt(square / double(n)), 1e-3, 4e-3 * std::sqrt(0.5 / double(n)));
  check::check_telling(zero.data(), n, "noise");
}

TEST(grid_noise_is_fresh_at_every_call_and_the_same_on_any_threads) {
  const NoiseGrid grid = noise_grid(0.5, 100);
  const SecretKey key = SecretKey::from_seed(32);
  std::vector<double> a(kNormalChunk + 5, 0.0), b = a, c = a, d = a;
  GridNoise noise(grid, key);
  parallel_threads() = 1;
  noise.add(a);
  noise.add(b);
  parallel_threads() = 3;
  GridNoise again(grid, key);
  again.add(c);
  again.add(d);
  parallel_threads() = 0;
  CHECK(a == c);
  CHECK(b == d);
  size_t equal = 0;
  for (size_t i = 0; i < a.size(); ++i) equal += a[i] == b[i];
  for (size_t i = kNormalChunk; i < a.size(); ++i) equal += a[i] == a[i - kNormalChunk];
  CHECK(equal < 5);  // of 65,536 steps a standard deviation
}

TEST(grid_noise_refuses_what_it_cannot_do_exactly_and_leaves_it_alone) {
  const NoiseGrid grid = noise_grid(1, 4);
  GridNoise noise(grid, SecretKey::from_seed(33));
  const auto untouched_by = [&](std::vector<double> w) {
    const std::vector<double> before = w;
    CHECK_THROWS(ErrorCode::invalid_argument, noise.add(w));
    CHECK(std::memcmp(w.data(), before.data(), w.size() * sizeof(double)) == 0);
  };
  untouched_by({0.5, 0x1p-17, 1});
  untouched_by({0.5, 5e-324});
  untouched_by({0.5, std::nan("")});
  untouched_by({0.5, double(INFINITY)});
  untouched_by({0.5, 0x1p37});
  std::vector<double> edge(4000, 0x1p37 - 0x1p-16);  // on the grid, but half of the sums are not below 2^53 steps
  untouched_by(edge);
  std::vector<double> bad = {1, std::nan("")};
  CHECK_THROWS(ErrorCode::invalid_argument, round_to_grid(bad, grid));
  CHECK(bad[0] == 1);
  std::vector<double> ties = {0x1p-17, 0x1.8p-16, -0x1p-17, 0.3};
  round_to_grid(ties, grid);
  CHECK((ties == std::vector<double>{0, 0x1p-15, 0, std::nearbyint(0.3 * 65536) / 65536}));
  CHECK(!std::signbit(ties[2]));
}

TEST(grid_noise_shaped_elsewhere_is_rounded_to_the_same_grid) {
  const NoiseGrid grid = noise_grid(1, 3);
  const GridNoise noise(grid, SecretKey::from_seed(34));
  std::vector<double> w = {1, -2, 0.25};
  noise.add_shaped(w, std::vector<double>{0.1, -7.7, 1e-9});
  CHECK(
      (w == std::vector<double>{1 + std::nearbyint(6553.6) / 65536, -2 + std::nearbyint(-7.7 * 65536) / 65536, 0.25}));
  // No sign of a zero tells on which side the mean lay.
  std::vector<double> zeros = {-0.0, 0.0, -0.0};
  noise.add_shaped(zeros, std::vector<double>{-1e-9, -1e-9, 1e-9});
  for (const double zero : zeros) CHECK(zero == 0 && !std::signbit(zero));
  const std::vector<double> before = w;
  CHECK_THROWS(ErrorCode::invalid_argument, noise.add_shaped(w, std::vector<double>{0.1, std::nan(""), 0}));
  CHECK_THROWS(ErrorCode::invalid_argument, noise.add_shaped(w, std::vector<double>{0.1, 1e300, 0}));
  CHECK_THROWS(ErrorCode::shape, noise.add_shaped(w, std::vector<double>{0.1}));
  CHECK(w == before);
}

TEST(grid_noise_is_cut_to_float32_last) {
  const std::vector<double> sums = {0.1, -3e38, 1e-50};
  std::vector<float> out(3, 7.0f);
  to_float32(sums, out);
  CHECK((out == std::vector<float>{0.1f, -3e38f, 0.0f}));
  out.assign(3, 7.0f);
  CHECK_THROWS(ErrorCode::invalid_argument, to_float32(std::vector<double>{0.1, 1e39, 0}, out));
  CHECK_THROWS(ErrorCode::shape, to_float32(std::vector<double>{0.1}, out));
  CHECK((out == std::vector<float>{7, 7, 7}));
}
