// Lines of text between ranks, over TCP and beside MPI: for what has to arrive when MPI may not be trusted
// to. Nothing here waits for the other side longer than it is told to; a peer that does not read costs memory
// for a few lines, not time.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace infalign::distributed {

/// One end of a connection, or a listening socket. Closes itself.
class LineSocket {
 public:
  enum class State {
    kOpen,
    kEnded,   // the other side has closed its end, or its process is gone
    kBroken,  // the network says that there is no way to it
  };

  LineSocket() = default;
  explicit LineSocket(int descriptor) : descriptor_(descriptor) {}
  ~LineSocket() { close(); }
  LineSocket(LineSocket&& other) noexcept;
  LineSocket& operator=(LineSocket&& other) noexcept;
  LineSocket(const LineSocket&) = delete;
  LineSocket& operator=(const LineSocket&) = delete;

  int descriptor() const { return descriptor_; }
  State state() const { return state_; }
  void close();

  /// Sends a line (without its end) as far as the system takes it at once; the rest goes with the next call.
  void send(std::string_view line);
  /// Sends what is left over; true when nothing is.
  bool flush();
  /// The whole lines that have arrived.
  std::vector<std::string> receive();

 private:
  void fail(int error);

  int descriptor_ = -1;
  State state_ = State::kOpen;
  std::string unsent_, unread_;
};

/// A socket that listens on a port of the system's choice, on all of the host's IPv4 addresses. Errors:
/// std::runtime_error naming the cause.
LineSocket listen_anywhere(std::uint16_t& port);

/// The next of those who wish to connect; not open (descriptor() < 0) when there is none.
LineSocket accept_one(const LineSocket& listening);

/// Connects within `limit`; not open when that fails, with the cause in `failure`.
LineSocket connect_to(const std::string& address, std::uint16_t port, std::chrono::milliseconds limit,
                      std::string& failure);

/// The IPv4 addresses of this host whose interface is up, those of the loopback interface last.
std::vector<std::string> own_addresses();

}  // namespace infalign::distributed
