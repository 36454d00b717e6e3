// ChaCha20 (RFC 8439) as a generator of secret random words, and its key from the operating system.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace palimpsest {

// 256 secret bits, overwritten when they go out of scope; copies that a block's computation leaves on the stack are
// not.
class SecretKey {
 public:
  // From the operating system's random source; throws ERR_UNSUPPORTED where it gives none.
  static SecretKey from_system();
  // Noise of a known seed can be subtracted again: for tests only.
  static SecretKey from_seed(uint64_t seed);

  explicit SecretKey(const std::array<uint8_t, 32>& bytes);
  SecretKey(const SecretKey&) = default;
  SecretKey& operator=(const SecretKey&) = default;
  ~SecretKey();

  const std::array<uint32_t, 8>& words() const { return words_; }

 private:
  SecretKey() = default;
  std::array<uint32_t, 8> words_{};  // little-endian words of the bytes
};

// The block function of RFC 8439, section 2.3, for counter, counter + 1, counter + 2, counter + 3 (mod 2^32): 64 bytes
// of key stream each, as 16 little-endian words.
void chacha20_blocks(const std::array<uint32_t, 8>& key, uint32_t counter, const std::array<uint32_t, 3>& nonce,
                     std::span<uint32_t, 64> out);

// The key stream for the nonce (0, stream), from counter 0 on; 2^35 words of 64 bits, then ERR_INTERNAL.
class ChaCha20 {
 public:
  ChaCha20(const SecretKey& key, uint64_t stream);
  ChaCha20(const ChaCha20&) = delete;
  ChaCha20& operator=(const ChaCha20&) = delete;
  ~ChaCha20();

  // The next 64 bits.
  uint64_t operator()() {
    if (used_ == buffer_.size()) refill();
    const uint64_t word = buffer_[used_] | (static_cast<uint64_t>(buffer_[used_ + 1]) << 32);
    used_ += 2;
    return word;
  }

 private:
  void refill();

  SecretKey key_;
  std::array<uint32_t, 3> nonce_;
  uint64_t counter_ = 0;
  std::array<uint32_t, 64> buffer_;
  size_t used_;
};

}  // namespace palimpsest
