# The CUDA back end, where INFALIGN_CUDA asks for it: nvcc compiles every .cu of kernels/ into infalign_kernels, in the
# place of the empty table. One architecture by default, as each takes its time; the preset cuda-all has them all.

set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)  # Static, the default, would be linked beside the shared one of CUDA::cudart
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 90)
endif()
enable_language(CUDA)
# CMake before 3.26 does not know that nvcc speaks C++20.
if(CMAKE_VERSION VERSION_LESS 3.26 AND NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()
set(CMAKE_CUDA_STANDARD 20)  # after enable_language(), whose own probe does not know it either
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
find_package(CUDAToolkit REQUIRED)
set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_SOURCE_DIR}/kernels/cuda/compile.py)

# infalign_add_cuda(TARGET): the .cu files join the target.
function(infalign_add_cuda target)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/*.cu)
  target_sources(${target} PRIVATE ${sources})
  set_source_files_properties(${CMAKE_SOURCE_DIR}/kernels/cuda/absent.cpp PROPERTIES HEADER_FILE_ONLY ON)
  target_link_libraries(${target} PUBLIC CUDA::cudart CUDA::cublasLt)
  # constexpr functions (Philox, the exponential) are the device's too. A spilled register or any warning is an error;
  # tests/kernels/cuda/occupancy.py reads what compile.py keeps of the registers and shared memory of each kernel.
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:
    --expt-relaxed-constexpr -Werror all-warnings -Xptxas -v,-warn-spills>)
endfunction()

find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
if(NOT NCCL_INCLUDE_DIR OR NOT NCCL_LIBRARY)
  message(FATAL_ERROR "the CUDA back end takes NCCL: set NCCL_INCLUDE_DIR and NCCL_LIBRARY")
endif()
