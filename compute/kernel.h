// How a hot loop is written: plain C++ for the auto-vectorizer, compiled once per instruction set, chosen at start.
//
// Every kernel computes elements independently of each other, or sums over lanes it names itself; with contraction off
// (SheafTargets.cmake) the wide and the narrow version therefore give the same bits.
#pragma once

// Inlined into each clone, so that the clone's instruction set reaches the innermost loop.
#define SHEAF_INLINE __attribute__((always_inline)) inline

// Not under the sanitizers: the resolvers would run before their runtime is up. Nor under clang: it has no such names.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define SHEAF_TARGET_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SHEAF_TARGET_CLONES
#endif

// In front of a loop whose iterations touch different elements, though the compiler cannot see it.
#if defined(__clang__)
#define SHEAF_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define SHEAF_INDEPENDENT _Pragma("GCC ivdep")
#else
#define SHEAF_INDEPENDENT
#endif
