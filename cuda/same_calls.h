// Whether a function type of ours passes what a library's own declaration passes.
#pragma once

#include <type_traits>

namespace palimpsest::cuda {

// Kinds of arguments agree: pointers with pointers, integers and enumerations with those of their size.
template <class A, class B>
constexpr bool same_argument() {
  return std::is_pointer_v<A> == std::is_pointer_v<B> && std::is_floating_point_v<A> == std::is_floating_point_v<B> &&
         sizeof(A) == sizeof(B);
}

template <class Ours, class Theirs>
struct SameCalls : std::false_type {};
template <class R, class... A, class S, class... B>
requires(sizeof...(A) == sizeof...(B)) struct SameCalls<R (*)(A...), S(B...)>
    : std::bool_constant<same_argument<R, S>() && (same_argument<A, B>() && ...)> {
};

}  // namespace palimpsest::cuda
