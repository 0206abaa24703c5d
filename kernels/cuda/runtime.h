// Memory and streams by the CUDA runtime; device.h and peer_memory.h say what they are to do.
#pragma once

#include <cstddef>
#include <string>

namespace infalign::kernels::cuda {

int device_count();
std::string device_identity(int device);
void* open_queue(int device);
void close_queue(void* queue);
void synchronise(void* queue);
void* allocate(void* queue, std::size_t bytes);
void release(void* queue, void* memory);
void* allocate_pinned(std::size_t bytes);
void release_pinned(void* memory);
void* allocate_shared(std::size_t bytes);
void release_shared(void* memory);
void handle_of_shared(void* memory, std::byte* handle);
void* open_shared(const std::byte* handle);
void close_shared(void* memory);
void copy(void* queue, std::size_t bytes, const void* from, void* to);
void fill_zero(void* queue, std::size_t bytes, void* to);
void* create_event();
void destroy_event(void* event);
void record_event(void* queue, void* event);
void wait_for_event(void* queue, void* event);
void synchronise_event(void* event);
void begin_recording(void* queue);
void abandon_recording(void* queue) noexcept;
void* end_recording(void* queue);
void replay(void* queue, void* recording);
void destroy_recording(void* recording);

}  // namespace infalign::kernels::cuda
