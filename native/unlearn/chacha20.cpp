// The ChaCha20 block function, its key stream, and keys from getrandom, getentropy or BCryptGenRandom.
#include "unlearn/chacha20.h"

#include <bit>
#include <string>

#include "core/error.h"

#if defined(_WIN32)
#include <windows.h>
// after windows.h
#include <bcrypt.h>
#pragma comment(lib, "bcrypt")
#elif defined(__linux__) || defined(__APPLE__) || defined(__FreeBSD__) || defined(__OpenBSD__) || defined(__NetBSD__)
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#endif

namespace palimpsest {
namespace {

[[maybe_unused]] [[noreturn]] void refuse(const std::string& why) {
  throw Error(ErrorCode::unsupported,
              "expected a noise key of 256 bits from the operating system's random source, got none: " + why);
}

void fill_from_system(std::array<uint8_t, 32>& bytes) {
#if defined(_WIN32)
  const NTSTATUS status =
      BCryptGenRandom(nullptr, bytes.data(), static_cast<ULONG>(bytes.size()), BCRYPT_USE_SYSTEM_PREFERRED_RNG);
  if (status < 0) refuse("BCryptGenRandom failed with status " + std::to_string(status));
#elif defined(__linux__)
  size_t have = 0;
  while (have < bytes.size()) {
    const ssize_t got = getrandom(bytes.data() + have, bytes.size() - have, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) refuse(std::string("getrandom: ") + std::strerror(errno));
    have += static_cast<size_t>(got);
  }
#elif defined(__APPLE__) || defined(__FreeBSD__) || defined(__OpenBSD__) || defined(__NetBSD__)
  if (getentropy(bytes.data(), bytes.size()) != 0) refuse(std::string("getentropy: ") + std::strerror(errno));
#else
  refuse("this platform is not known to have one (bytes wanted: " + std::to_string(bytes.size()) + ")");
#endif
}

// A plain fill of memory that is about to die would be optimised away.
template <class T, size_t N>
void wipe(std::array<T, N>& values) {
  volatile T* out = values.data();
  for (size_t i = 0; i < N; ++i) out[i] = 0;
}

// Four blocks side by side: a word of the state is four 32-bit lanes, which compilers keep in one register.
struct Lanes {
  alignas(16) uint32_t lane[4];
};

void add(Lanes& a, const Lanes& b) {
  for (int i = 0; i < 4; ++i) a.lane[i] += b.lane[i];
}

template <int Bits>
void xor_rotate(Lanes& a, const Lanes& b) {
  for (int i = 0; i < 4; ++i) a.lane[i] = std::rotl(a.lane[i] ^ b.lane[i], Bits);
}

void quarter_round(Lanes& a, Lanes& b, Lanes& c, Lanes& d) {
  add(a, b);
  xor_rotate<16>(d, a);
  add(c, d);
  xor_rotate<12>(b, c);
  add(a, b);
  xor_rotate<8>(d, a);
  add(c, d);
  xor_rotate<7>(b, c);
}

}  // namespace

SecretKey SecretKey::from_system() {
  std::array<uint8_t, 32> bytes{};
  fill_from_system(bytes);
  SecretKey key(bytes);
  wipe(bytes);
  return key;
}

SecretKey SecretKey::from_seed(uint64_t seed) {
  SecretKey key;
  key.words_[0] = static_cast<uint32_t>(seed);
  key.words_[1] = static_cast<uint32_t>(seed >> 32);
  return key;
}

SecretKey::SecretKey(const std::array<uint8_t, 32>& bytes) {
  for (size_t i = 0; i < bytes.size(); ++i) words_[i / 4] |= static_cast<uint32_t>(bytes[i]) << (8 * (i % 4));
}

SecretKey::~SecretKey() { wipe(words_); }

void chacha20_blocks(const std::array<uint32_t, 8>& key, uint32_t counter, const std::array<uint32_t, 3>& nonce,
                     std::span<uint32_t, 64> out) {
  // "expand 32-byte k", the key, the counter, the nonce
  const uint32_t state[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574, key[0],  key[1],   key[2],   key[3],
                              key[4],     key[5],     key[6],     key[7],     counter, nonce[0], nonce[1], nonce[2]};
  Lanes x[16];
  for (uint32_t i = 0; i < 16; ++i) {
    for (uint32_t j = 0; j < 4; ++j) x[i].lane[j] = state[i] + (i == 12 ? j : 0);
  }
  for (int round = 0; round < 10; ++round) {
    quarter_round(x[0], x[4], x[8], x[12]);
    quarter_round(x[1], x[5], x[9], x[13]);
    quarter_round(x[2], x[6], x[10], x[14]);
    quarter_round(x[3], x[7], x[11], x[15]);
    quarter_round(x[0], x[5], x[10], x[15]);
    quarter_round(x[1], x[6], x[11], x[12]);
    quarter_round(x[2], x[7], x[8], x[13]);
    quarter_round(x[3], x[4], x[9], x[14]);
  }
  for (uint32_t i = 0; i < 16; ++i) {
    for (uint32_t j = 0; j < 4; ++j) out[16 * j + i] = x[i].lane[j] + state[i] + (i == 12 ? j : 0);
  }
}

ChaCha20::ChaCha20(const SecretKey& key, uint64_t stream)
    : key_(key), nonce_{0, static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)}, used_(buffer_.size()) {}

ChaCha20::~ChaCha20() { wipe(buffer_); }

void ChaCha20::refill() {
  if (counter_ > 0xffffffff) throw Error(ErrorCode::internal, "a ChaCha20 stream is used up: 2^32 blocks");
  chacha20_blocks(key_.words(), static_cast<uint32_t>(counter_), nonce_, buffer_);
  counter_ += 4;
  used_ = 0;
}

}  // namespace palimpsest
