// One binary for all processors: a function marked INFALIGN_VECTORISE is compiled for AVX-512, AVX2 and the
// baseline, and the loader picks. Such functions are plain loops that the compiler turns into vector code;
// they are file-local and never contain a parallel region (mark the function that works on one thread's
// share).
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(INFALIGN_SANITIZED)
#define INFALIGN_VECTORISE [[gnu::target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")]]
#else
#define INFALIGN_VECTORISE
#endif
